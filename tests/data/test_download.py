"""Downloads against servers that cut, stall, lie, redirect and know no ranges; archives that would write elsewhere."""

import hashlib
import io
import tarfile
import threading
import time

import numpy as np
import pytest
from hostile_server import serving

from carnelian.data import download as module
from carnelian.data.archive import unpack
from carnelian.data.download import download
from carnelian.errors import DownloadError

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.001)


@pytest.fixture
def server():
    with serving(CONTENT) as one:
        yield one


def get(server, path, **given):
    given = {"size": len(CONTENT), "checksum": MD5, "trusted": [server.url]} | given
    return download(given.pop("urls", server.url), path, **given)


def test_a_file_comes_whole_and_once(server, tmp_path):
    for _ in range(2):
        assert get(server, tmp_path / "new" / "a").read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_a_connection_that_breaks_again_and_again_is_resumed(server, tmp_path):
    server.cut = 20_000  # 15 connections, three times as many as are tried without a new byte
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    starts = [int(asked[6:-1] or 0) for _, asked in server.asked if asked]
    assert starts == list(range(20_000, 300_000, 20_000))


@pytest.mark.parametrize("wrong", ["a web page", "another file"])
def test_what_is_here_outlives_a_server_that_sends_something_else(server, tmp_path, wrong):
    server.cut = 100_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "copy", interrupted(module.copy))
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path / "a")
    server.cut, server.ranges = 0, False
    if wrong == "a web page":  # as hotels do
        server.kind, server.content = "text/html; charset=utf-8", CONTENT[:500]
    else:
        server.content = CONTENT[:500]
    with pytest.raises(DownloadError, match=f"{wrong}.*100 kB are kept"):
        get(server, tmp_path / "a")
    server.kind, server.content, server.ranges, server.asked = "", CONTENT, True, []
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=100000-")]


@pytest.mark.parametrize("known", [True, False])
def test_a_later_call_goes_on(server, tmp_path, known):
    server.cut, given = 100_000, {} if known else {"size": 0, "checksum": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "copy", interrupted(module.copy))
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path / "a", **given)
    assert (tmp_path / ".a.part").stat().st_size == 100_000
    server.cut, server.asked = 0, []
    assert get(server, tmp_path / "a", **given).read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=100000-")]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def interrupted(copy):
    def stop(*given):
        copy(*given)
        raise KeyboardInterrupt

    return stop


def test_another_version_is_not_appended(server, tmp_path):
    """Without a checksum, the server's tag says whether the bytes so far are of the same file."""
    (tmp_path / ".a.part").write_bytes(b"old" * 1000)
    (tmp_path / ".a.tag").write_text('"older"')
    assert get(server, tmp_path / "a", size=0, checksum="").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [1000, 400_000])
@pytest.mark.parametrize("given", [{"size": 0}, {"checksum": ""}, {}])
def test_old_bytes_before_the_right_ones_are_found_out(server, tmp_path, size, given):
    """By the checksum, or by a size that is exceeded."""
    if given == {"checksum": ""} and size < len(CONTENT):
        return
    (tmp_path / ".a.part").write_bytes(b"x" * size)
    assert get(server, tmp_path / "a", **given).read_bytes() == CONTENT


def test_a_disk_that_is_full_is_one_line(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Partial, "keep", full)
    with pytest.raises(DownloadError, match="No space left on device"):
        get(server, tmp_path / "a")
    monkeypatch.undo()
    server.asked = []
    monkeypatch.setattr(module, "PAUSE", 0.001)
    assert get(server, tmp_path / "a").read_bytes() == CONTENT and not server.asked  # what came is kept


def test_a_server_that_knows_no_ranges(server, tmp_path):
    (tmp_path / ".a.part").write_bytes(CONTENT[:5000])
    server.ranges = False
    assert get(server, tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("change", [lambda c: c[:-1] + b"?", lambda c: c[:-1], lambda c: c + b"more"])
@pytest.mark.parametrize("size", [0, len(CONTENT)])
def test_wrong_bytes_are_refused_and_removed(server, tmp_path, change, size):
    server.content = change(CONTENT)
    with pytest.raises(DownloadError, match=r"other bytes|another file") as error:
        get(server, tmp_path / "a", size=size)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_mirrors_are_asked_in_turn(server, tmp_path):
    with serving() as wrong:
        wrong.content = b"x" * len(CONTENT)
        refused = f"http://127.0.0.1:{wrong.http.server_port + 1}/none"
        urls = [refused, wrong.url, server.url]
        assert get(server, tmp_path / "a", urls=urls).read_bytes() == CONTENT
    assert len(wrong.asked) == 1


def test_a_server_that_stalls_is_asked_again(server, tmp_path):
    server.wait = 2
    thread = threading.Timer(0.3, lambda: setattr(server, "wait", 0))
    thread.start()
    assert get(server, tmp_path / "a", timeout=0.5).read_bytes() == CONTENT
    assert len(server.asked) > 1 and server.asked[-1][1]


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.statuses = [503, 429]
    get(server, tmp_path / "a")
    server.statuses = [404] * 9
    with pytest.raises(DownloadError, match="HTTP 404"):
        get(server, tmp_path / "b")
    assert len(server.asked) == 4 and not (tmp_path / ".b.part").exists()


def test_redirects_are_followed(server, tmp_path):
    server.redirect = server.url + "s/elsewhere"
    assert get(server, tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target",
    [
        *("file:///etc/hostname", "ftp://example.org/a", "gopher://x", "data:,x"),
        *("http://10.0.0.1/a", "http://169.254.169.254/a", "http://[::1]:1/a", "http://localhost:1/a"),
    ],
)
def test_redirects_to_files_and_private_addresses_are_not_followed(server, tmp_path, target):
    with serving() as private:
        server.redirect = target.replace("localhost:1", f"localhost:{private.http.server_port}")
        with pytest.raises(DownloadError, match=r"not followed|not allowed"):
            get(server, tmp_path / "a")
    assert not private.asked and not list(tmp_path.iterdir())


def test_nothing_is_sent_to_private_addresses_of_any_spelling(server, tmp_path):
    with serving() as private:
        for host in ("localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            server.redirect = f"http://{host}:{private.http.server_port}/file"
            with pytest.raises(DownloadError, match="private address"):
                get(server, tmp_path / "a")
    assert not private.asked and not list(tmp_path.iterdir())


def test_a_private_address_must_be_the_user_s(server, tmp_path):
    with pytest.raises(DownloadError, match=r"private address 127\.0\.0\.1"):
        get(server, tmp_path / "a", trusted=[])
    assert not server.asked


def test_no_room_is_said_before_anything_is_asked(server, tmp_path):
    with pytest.raises(DownloadError, match="Make room"):
        get(server, tmp_path / "a", size=1 << 60)
    assert not server.asked and not list(tmp_path.iterdir())


def test_two_at_once_do_not_mix(server, tmp_path):
    server.wait = 0.5
    thread = threading.Thread(target=get, args=(server, tmp_path / "a"))
    thread.start()
    while not server.asked:
        time.sleep(0.01)
    with pytest.raises(DownloadError, match="another process is downloading it"):
        get(server, tmp_path / "a")
    thread.join()
    assert (tmp_path / "a").read_bytes() == CONTENT


def archive(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content, *kind in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if kind:
                member.type, member.linkname, member.size = kind[0], content.decode(), 0
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archives_are_unpacked_beside_what_is_there(tmp_path, mode):
    (tmp_path / "out" / "top").mkdir(parents=True)
    (tmp_path / "out" / "top" / "old").write_text("old")
    packed = archive(tmp_path / "a.tar", ("./top/x/one", b"1"), ("top/two", b"22"), mode=mode)
    files = unpack(packed, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in files] == ["top/x/one", "top/two"]
    assert [path.read_bytes() for path in files] == [b"1", b"22"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["old", "one", "top", "two", "x"]


@pytest.mark.parametrize(
    "member",
    [
        ("../out.txt", b"x"),
        ("top/../../out.txt", b"x"),
        ("/tmp/out.txt", b"x"),
        ("C:/out.txt", b"x"),
        ("..\\out.txt", b"x"),
        ("link", b"/etc/passwd", tarfile.SYMTYPE),
        ("link", b"../../x", tarfile.LNKTYPE),
        ("device", b"", tarfile.CHRTYPE),
        ("pipe", b"", tarfile.FIFOTYPE),
    ],
)
def test_hostile_archives_write_nothing(tmp_path, member):
    packed = archive(tmp_path / "a.tar.gz", ("good", b"1"), member)
    with pytest.raises(DownloadError, match="hostile"):
        unpack(packed, tmp_path / "in" / "side")
    assert not list((tmp_path / "in" / "side").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "in"}


def test_cut_damaged_and_swollen_archives(tmp_path):
    whole = archive(tmp_path / "a.tar.gz", ("one", CONTENT), ("two", bytes(1 << 20))).read_bytes()
    damaged = whole[:1000] + bytes(8) + whole[1008:]
    for content, limit, finding in [
        (whole[: len(whole) // 2], 0, "not a whole tar archive"),
        (damaged, 0, "not a whole tar archive"),
        (b"no archive", 0, "not a whole tar archive"),
        (whole, 1 << 20, "holds more than"),
    ]:
        (tmp_path / "b.tar.gz").write_bytes(content)
        with pytest.raises(DownloadError, match=finding):
            unpack(tmp_path / "b.tar.gz", tmp_path / "out", most_bytes=limit)
        assert not list((tmp_path / "out").iterdir())


def test_a_million_empty_files_are_too_many(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for number in range(3000):
            tar.addfile(tarfile.TarInfo(f"a/{number}"))
    with pytest.raises(DownloadError, match="holds more than 1,000,000 bytes"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", most_bytes=1_000_000)
    assert not list((tmp_path / "out").iterdir())
