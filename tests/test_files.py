"""Files read and written: every fault is one line that names the file at fault, and nothing half-written stays."""

import os
import pickle
import zlib
from pathlib import Path

import pytest

from carnelian.errors import CarnelianError, LanguageModelError, MissingExtraError
from carnelian.files import LONGEST_LINE, one_line, reading, written


def message(fault, path="model.bin"):
    with pytest.raises(LanguageModelError) as caught, reading(path, "a language model", LanguageModelError):
        raise fault
    text = str(caught.value)
    assert len(text) <= LONGEST_LINE and text.isprintable()
    return text


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("x" * 10_000),
        KeyError("a\nb\x1b[31m"),
        zlib.error("Error -3 while decompressing data"),
        EOFError(),
        RecursionError("maximum recursion depth exceeded"),
        MemoryError(),
        OverflowError("int too large"),
        AssertionError(),
        pickle.UnpicklingError("invalid load key\nand more"),
        UnicodeDecodeError("utf-8", b"abc\xff", 3, 4, "invalid start byte"),
        UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
        PermissionError(13, "Permission denied"),
        LanguageModelError("a\nb" * 1000),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_any_fault_is_one_line(fault):
    message(fault)


def test_names_of_any_kind():
    assert "\\udce9" in message(ValueError(), "\udce9.bin")
    assert message(ValueError("why"), "a" * 5000).endswith("(why). Is the file whole?")
    with (
        pytest.raises(LanguageModelError, match=r"a\\x00b: cannot be read .*null"),
        reading("a\0b", "a model", LanguageModelError),
    ):
        Path("a\0b").read_bytes()


def test_errors_keep_their_kind():
    with pytest.raises(MissingExtraError, match=r"pip install"), reading("x", "a model", LanguageModelError):
        raise MissingExtraError("fsspec", "remote", "A remote shard")
    with pytest.raises(KeyboardInterrupt), reading("x", "a model"):
        raise KeyboardInterrupt


def test_missing_files_and_folders(tmp_path):
    with (
        pytest.raises(CarnelianError, match=r"gone: no such file\. Give a model"),
        reading(tmp_path / "gone", "a model"),
    ):
        (tmp_path / "gone").read_bytes()
    with pytest.raises(CarnelianError, match="this is a folder"), reading(tmp_path, "a model"):
        tmp_path.read_bytes()


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_special_files_are_refused_before_they_are_opened(tmp_path, kind):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with (
        pytest.raises(LanguageModelError, match="FIFO, socket or device"),
        reading(path if kind == "fifo" else "/dev/zero", "a model", LanguageModelError),
    ):
        pytest.fail("the body ran")


def test_one_line_keeps_beginning_and_end():
    line = one_line("begin " + "x" * 10_000 + " end")
    assert line.startswith("begin x") and line.endswith("x end") and len(line) == LONGEST_LINE
    assert one_line("deep\u00a0blue\u2028ü") == "deep\\xa0blue\\u2028ü"


def test_a_reader_s_fault_is_not_blamed_on_the_output(tmp_path):
    out = tmp_path / "out.txt"
    with pytest.raises(CarnelianError, match=r"gone\.txt: No such file"), written(out):
        (tmp_path / "gone.txt").read_text()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CarnelianError, match=r"file/x: could not be written \("), written(tmp_path / "file" / "x"):
        pytest.fail("the body ran")


def test_the_unfinished_file_is_never_someone_s_link(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "known")
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("whole")
    (tmp_path / ".out.known").symlink_to(victim)
    with pytest.raises(CarnelianError, match="could not be written"), written(out) as file:
        file.write("new")
    assert victim.read_text() == "whole" and not out.exists()
