"""`carnelian` for the shell blocks of the pages: each call is a fork of one process that has imported everything already.

python carnelian_fork.py fork-server SOCKET     the process that forks
python -S carnelian_fork.py VERB ...            the command, which passes its arguments, folder, environment and files to it
"""

import json
import os
import socket
import sys

SHORT = ["train.epochs=0", "train.steps=4", "schedule.warmup=1"]  # a training on a page has four steps
FILES = (0, 1, 2)


def shortened(words: list[str]) -> list[str]:
    """Returns a command with a training cut short, and a service at the page's port."""
    sets = [part for key in SHORT for part in ("--set", key)]
    if words[:1] == ["train"]:
        return [*words, *sets]
    if words[:1] == ["pairs"] and "--recipe" in words:  # and keeps what such a model writes
        return [*words, *sets, "--largest-wer", "1"]
    if words[:1] == ["benchmark"]:
        return [*words, "--repeats", "2", "--iterations", "1"]
    if words[:1] == ["serve"] and "--port" not in words and "CARNELIAN_PORT" in os.environ:
        return [*words, "--port", os.environ["CARNELIAN_PORT"]]
    return words


def call(words: list[str]) -> int:
    """The command's exit code."""
    if words[:1] == ["serve"]:  # it is stopped by a signal, which a fork of another process would not get
        os.execv(os.environ["CARNELIAN_PYTHON"], [os.environ["CARNELIAN_PYTHON"], "-m", "carnelian", *words])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["CARNELIAN_SOCKET"])
        request = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(connection, [len(request).to_bytes(4, "big")], list(FILES))
        connection.sendall(request)
        return int.from_bytes(connection.recv(1) or b"\xff", "big")


def serve(path: str) -> None:
    """Forks for each call that comes to the socket."""
    import signal

    from carnelian.cli import VERBS, functions_of

    for verb in VERBS:
        functions_of(verb)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(connection)
            connection.close()


def answer(connection: socket.socket) -> None:
    """Runs one command in this process, with the files, folder and environment of the caller, and sends its exit code."""
    import signal

    from carnelian import cli

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 4, len(FILES))
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(65536)
    words, folder, environment = json.loads(request)
    for file, own in zip(files, FILES):
        os.dup2(file, own)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(own, mode, closefd=False) for own, mode in zip(FILES, "rww"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    added = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in added if path and path not in sys.path]
    sys.argv = ["carnelian", *words]
    code = 1
    try:
        cli.main()
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code & 255]))
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:2] == ["fork-server"]:
        serve(sys.argv[2])
    else:
        sys.exit(call(shortened(sys.argv[1:])))
