"""Where compiled functions are kept: in a folder of the user's own, and damaged files of the cache are compiled anew."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from carnelian.jit import private_folder

CODE = """
import sys
from carnelian.jit import cached
sys.path.insert(0, sys.argv[1])
import module
print(module.twice(21))
"""


def test_a_folder_of_another_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = Path(private_folder())
    assert own.stat().st_mode & 0o777 == 0o700 and str(own) == private_folder()
    own.chmod(0o777)  # another could have put files into it
    other = Path(private_folder())
    assert other != own and other.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    own.symlink_to(tmp_path)
    assert private_folder() != str(own)
    own.unlink()
    own.write_text("")
    assert private_folder() != str(own)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_with_another_owner_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = Path(private_folder())
    os.chown(own, 12345, 12345)
    assert private_folder() != str(own)


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_cache_is_compiled_anew(tmp_path, suffix):
    (tmp_path / "module.py").write_text(
        "from carnelian.jit import cached\n\n\n@cached\ndef twice(value):\n    return 2 * value\n"
    )

    def run() -> str:
        command = [sys.executable, "-c", CODE, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd()).stdout.strip()

    assert run() == "42"
    files = list((tmp_path / "__pycache__").glob(f"*{suffix}"))
    assert files
    for damage in (b"", files[0].read_bytes()[:-7], b"garbage"):
        files[0].write_bytes(damage)
        assert run() == "42"
