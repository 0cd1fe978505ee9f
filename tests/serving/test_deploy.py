"""What is ready to be deployed: the steps of the Dockerfile in a plain folder, Hadolint's and systemd's own checks."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from carnelian.commands.export_onnx import onnx

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
LINKS = {"/app": "app", "/model": "model"}  # folders of the image, here below the test's own


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of each line of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def here(text: str, folder: Path) -> str:
    """The text with the image's folders replaced by those of the test."""
    for path, name in LINKS.items():
        text = re.sub(rf"(?<![\w.]){path}(?=[/\s\"]|$)", str(folder / name), text)
    return text


@pytest.fixture
def image(tmp_path):
    """The folder in which the Dockerfile's steps were performed, with the environment of a process there."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {
        "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    environment |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    (tmp_path / "model").mkdir()
    for instruction, rest in instructions():
        if instruction == "WORKDIR":
            (tmp_path / LINKS[rest]).mkdir()
        elif instruction == "COPY":
            *sources, target = rest.split()
            for source in sources:
                path = ROOT / source
                into = tmp_path / "app" / target
                if path.is_dir():
                    shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, into)
        elif instruction == "RUN" and not rest.startswith("useradd"):
            command = ["bash", "-ec", here(rest, tmp_path)]
            done = subprocess.run(command, cwd=tmp_path / "app", env=environment, capture_output=True, text=True)
            if re.search("NewConnectionError|Temporary failure|No matching distribution", done.stderr):
                pytest.skip("no package index can be reached")
            assert done.returncode == 0, done.stderr[-3000:]
        elif instruction == "ENV":
            environment |= dict(each.split("=", 1) for each in shlex.split(here(rest, tmp_path)))
    return tmp_path, environment


@pytest.mark.slow
def test_the_dockerfiles_steps_make_a_service(image, model, singer, encoder, form):
    folder, environment = image
    assert not list((folder / "app").iterdir())  # the sources do not stay
    onnx(model, folder / "model" / "model.onnx")
    words = dict(instructions())
    command = [*json.loads(words["ENTRYPOINT"]), *json.loads(here(words["CMD"], folder))]
    command[command.index("8000")] = "0"
    environment |= {"CARNELIAN_API_KEYS": "secret"}
    process = subprocess.Popen(command, cwd=folder / "app", env=environment, stderr=subprocess.PIPE, text=True)
    try:
        port = next(json.loads(line)["port"] for line in process.stderr if '"ready"' in line)
        kind, check = words["HEALTHCHECK"].split("CMD", 1)
        check = [each.replace("8000", str(port)) for each in json.loads(check)]
        assert subprocess.run(check, env=environment, cwd=folder).returncode == 0
        assert "--start-period" in kind
        body, type = form(encoder(singer("do re mi")), **{"keywords[]": "anna"})
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"content-type": type, "authorization": "Bearer secret"}
        connection.request("POST", "/v1/audio/transcriptions", body, headers)
        assert connection.getresponse().status == 200
    finally:
        process.terminate()
        process.wait(20)


def test_hadolint_finds_nothing(clients):
    hadolint = Path(clients).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: make clients")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = (DEPLOY / "carnelian.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", unit, re.MULTILINE)[1]
    path = tmp_path / "carnelian.service"
    path.write_text(unit.replace(program, "/bin/true"))  # it has to be there
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout  # its exposure, of 100
