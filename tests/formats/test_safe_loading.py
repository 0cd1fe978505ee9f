"""Hostile and broken files: each one clear line, and nothing run."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile

import pytest
import torch

from carnelian.errors import CheckpointError
from carnelian.formats.safe_loading import check_tensors, plain, read_archive, read_file, read_pickle


class Hostile:
    """Unpickled by Python itself, this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def saved(value, **settings) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **settings)
    return buffer.getvalue()


def refused(function, *arguments) -> str:
    with pytest.raises(CheckpointError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def archive(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickle_is_refused_and_not_run(tmp_path, zipped):
    data = saved({"weight": Hostile(tmp_path / "run")}, _use_new_zipfile_serialization=zipped)
    assert '"posix.system"' in refused(read_pickle, "bad.pt", data)
    assert not (tmp_path / "run").exists()


def test_raw_pickle_is_refused_and_not_run(tmp_path):
    message = refused(read_pickle, "bad.pt", pickle.dumps(Hostile(tmp_path / "run"), protocol=2))
    assert message.startswith("bad.pt: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_cut_pickle(zipped, kept):
    data = saved({"weight": torch.zeros(1000)}, _use_new_zipfile_serialization=zipped)
    assert (
        "whole" in (message := refused(read_pickle, "cut.pt", data[: int(len(data) * kept)])) or "cut short" in message
    )


@pytest.mark.parametrize("data", [b"RIFF....WAVEfmt ", b"\x80\x02}q\x00.", b"hello", bytes(range(256))])
def test_no_checkpoint_at_all(data):
    if data == b"\x80\x02}q\x00.":
        assert "torch.save" in refused(read_pickle, "other.pt", data)
    else:
        assert refused(read_pickle, "other.pt", data).startswith("other.pt: no PyTorch checkpoint")


def test_zip_bomb_is_not_opened():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as records:
        records.writestr("archive/data/0", bytes(10_000_000))
    assert "not opened" in refused(read_pickle, "bomb.pt", buffer.getvalue())


def test_tensor_that_claims_more_than_it_holds():
    assert "holds fewer" in refused(check_tensors, "x.pt", {"a": torch.zeros(1).expand(10**6, 10**6)})
    assert "no plain tensor" in refused(check_tensors, "x.pt", {"a": torch.zeros(3, 3).to_sparse()})
    assert "no plain tensor" in refused(check_tensors, "x.pt", {"a": "weight"})


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "a/../../escaped"])
def test_member_outside_the_archive(tmp_path, name):
    path = archive(tmp_path / "bad.nemo", [("model_config.yaml", b"a: 1"), (name, b"x")])
    assert "points out of the archive" in refused(read_archive, path)
    assert not (tmp_path.parent / "escaped").exists()


def test_links_and_devices(tmp_path):
    path = tmp_path / "bad.nemo"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("model_weights.ckpt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert "link or device" in refused(read_archive, path)


def test_archive_that_grows_is_not_opened(tmp_path):
    path = tmp_path / "bomb.nemo"
    with gzip.open(path, "wb") as stream:
        header = tarfile.TarInfo("model_weights.ckpt")
        header.size = 2**40
        stream.write(header.tobuf() + bytes(2**20))
    assert "not opened" in refused(read_archive, path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_whole_and_cut_archives(tmp_path, mode):
    members = [("./model_config.yaml", b"a: 1"), ("./model_weights.ckpt", os.urandom(50_000))]
    path = archive(tmp_path / "model.nemo", members, mode)
    assert read_archive(path) == {"model_config.yaml": b"a: 1", "model_weights.ckpt": members[1][1]}
    path.write_bytes(path.read_bytes()[:30_000])
    assert "cut short" in refused(read_archive, path)


def test_settings_of_other_frameworks_are_plain_data():
    from argparse import Namespace

    found = read_pickle(
        "x.pt", saved({"args": Namespace(layers="[(512, 10, 5)]", dropout=0.1), "model": {"w": torch.ones(2)}})
    )
    assert plain(found["args"]) == {"layers": "[(512, 10, 5)]", "dropout": 0.1}
    assert torch.equal(found["model"]["w"], torch.ones(2))


def test_settings_that_share_or_hold_themselves_end():
    shared = ["x"]
    for _ in range(60):
        shared = [shared, shared]
    assert len(plain(shared)) == 2  # 2 ** 60 strings, were they copied
    shared.append(shared)
    assert plain(shared)[2] is None
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert "nested without end" in refused(plain, deep)


def test_missing_file(tmp_path):
    assert "no such file" in refused(read_file, tmp_path / "none.pt")
