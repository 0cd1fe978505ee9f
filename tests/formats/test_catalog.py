"""Pretrained models by name: fetched once from a server that may cut or lie, kept, and used offline afterwards."""

import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from carnelian.data import download as download_module
from carnelian.errors import CheckpointError, DownloadError
from carnelian.files import HOME_VARIABLE
from carnelian.formats.catalog import MIRROR, fetch_model, find_checkpoint, find_model, read_catalog
from carnelian.inference.recognizer import Recognizer

NAME, ARCHIVE = "quartznet15x5-en", "quartznet_tiny.nemo"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(MIRROR, raising=False)
    monkeypatch.setattr(download_module, "PAUSE", 0.001)
    return tmp_path / "home" / "models"


@pytest.fixture
def server(shared):
    """(address, the paths that were asked for, its ways): serves the oracle archives; `ways["cut"]` bytes at a time."""
    asked, ways = [], {"cut": 0}

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            path = self.translate_path(self.path)
            if not ways["cut"] or not os.path.isfile(path):
                return super().do_GET()
            first = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            with open(path, "rb") as file:
                data = file.read()
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", '"same"')
            self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            self.wfile.write(data[first : first + ways["cut"]])

    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shared("nemo/oracle"))))
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", asked, ways
    http.shutdown()
    http.server_close()


def test_the_list_makes_sense():
    date, models = read_catalog()
    assert len(date) == 10
    assert len(models) > 50
    for model in models.values():
        assert urlsplit(model.address).scheme == "https"
        assert model.licence
        assert model.language.isalpha()
        assert not model.sha256 or len(model.sha256) == 64
        assert find_model(model.published) is model or find_model(model.published).published == model.published
    names = " ".join(models)
    for family in ("quartznet15x5-en", "jasper10x5dr-en", "citrinet-512-en", "conformer-ctc-small-en",
                   "fastconformer-ctc-large-en", "parakeet-ctc-1.1b", "wav2vec2-base-960h-en", "-es", "-de"):  # fmt: skip
        assert family in names


def test_fetched_once_then_offline(server, home, capsys):
    address, asked, _ = server
    path = find_checkpoint(NAME, f"{address}/{ARCHIVE}")
    assert path == home / f"{NAME}.safetensors"
    shown = capsys.readouterr().err
    assert "CC-BY-4.0" in shown and "sha256" in shown and "offline" in shown
    count = len(asked)
    assert find_checkpoint(NAME) == path
    assert find_checkpoint("stt_en_quartznet15x5") == path  # the name it was published under
    assert len(asked) == count
    note = json.loads((home / f"{NAME}.json").read_text())
    assert len(note["sha256"]) == 64
    assert sorted(file.name for file in home.rglob("*") if file.is_file()) == [f"{NAME}.json", f"{NAME}.safetensors"]
    assert Recognizer.load(NAME)(np.zeros(16_000, np.float32)) is not None


def test_a_connection_that_breaks_is_resumed(server, home):
    address, asked, ways = server
    ways["cut"] = 30_000
    assert fetch_model(find_model(NAME), f"{address}/{ARCHIVE}").exists()
    assert len(asked) > 4


def test_other_bytes_than_at_first_are_refused(server, home):
    address, _, _ = server
    path = fetch_model(find_model(NAME), f"{address}/{ARCHIVE}")
    path.unlink()
    with pytest.raises(DownloadError, match="checksum"):
        fetch_model(find_model(NAME), f"{address}/jasper_dr_small.nemo")
    assert not path.exists()
    assert fetch_model(find_model(NAME), f"{address}/{ARCHIVE}") == path


def test_a_known_checksum_holds_from_the_first_time(server):
    with pytest.raises(DownloadError, match=r"checksum|another file"):
        fetch_model(find_model("quartznet5x5-librispeech-en"), f"{server[0]}/{ARCHIVE}")


def test_what_is_no_model_leaves_nothing(server, home):
    with pytest.raises(CheckpointError):
        fetch_model(find_model(NAME), f"{server[0]}/quartznet_tiny.npz")
    with pytest.raises(DownloadError, match="404"):
        fetch_model(find_model(NAME), f"{server[0]}/nothing.nemo")
    assert not [file for file in home.rglob("*") if file.is_file()]


def test_a_mirror_is_asked_first(server, monkeypatch):
    address, asked, _ = server
    nowhere = replace(find_model(NAME), address=f"http://127.0.0.1:9/{ARCHIVE}")
    with pytest.raises(DownloadError, match="private"):
        fetch_model(nowhere)
    monkeypatch.setenv(MIRROR, f"{address}/")
    assert fetch_model(nowhere).exists()
    assert asked == [f"/{ARCHIVE}"]


def test_names_that_are_neither_file_nor_model():
    with pytest.raises(CheckpointError, match="Did you mean 'quartznet15x5-en'"):
        find_checkpoint("quartznet15x5-eng")
    assert str(find_checkpoint("some/where.safetensors")) == "some/where.safetensors"  # its reader says what is missing


def test_from_beside_a_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="--from"):
        find_checkpoint(path, "http://127.0.0.1/a")


@pytest.mark.slow
def test_transcribe_by_name(server, home, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(size=16_000) / 10, 16_000)
    command = [sys.executable, "-m", "carnelian", "transcribe", "conformer-ctc-small-en", str(tmp_path / "a.wav")]
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=120)
    first = run([*command, "--from", f"{server[0]}/conformer_tiny.nemo"])
    assert first.returncode == 0, first.stderr
    assert "licence CC-BY-4.0" in first.stderr
    second = run(command)
    assert (second.returncode, second.stdout) == (0, first.stdout), second.stderr
    digest = hashlib.sha256((home / "conformer-ctc-small-en.safetensors").read_bytes()).hexdigest()
    assert len(digest) == 64
    wrong = run([*command[:4], "conformer-ctc-smal-en", command[5]])
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr
