"""The wheel of the running package, as pip reads and installs it, from an installation and from beside its source."""

import subprocess
import sys
from importlib import metadata

import pytest

from carnelian import __version__
from carnelian.cloud.package import wheel
from carnelian.errors import CloudError

TEXT = f"Metadata-Version: 2.4\nName: carnelian\nVersion: {__version__}\nProvides-Extra: train\n"


def beside_the_source(folder, name: str):
    """What an editable installation leaves beside the source: Python finds it first where a command runs there."""
    (folder / "carnelian.egg-info").mkdir()
    (folder / "carnelian.egg-info" / name).write_text(TEXT)
    return str(folder)


@pytest.mark.parametrize("source", [False, True])
def test_pip_installs_the_wheel(source, tmp_path, monkeypatch):
    if source:
        monkeypatch.syspath_prepend(beside_the_source(tmp_path, "PKG-INFO"))
    name, content = wheel()
    (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", "installed"]
    subprocess.run([*command, name], cwd=tmp_path, check=True, capture_output=True)
    (found,) = metadata.distributions(path=[str(tmp_path / "installed")])
    assert (found.metadata["Name"], found.version) == ("carnelian", __version__)
    assert "train" in found.metadata.get_all("Provides-Extra")
    assert (tmp_path / "installed" / "carnelian" / "cloud" / "templates" / "boot.sh").exists()


def test_an_installation_without_metadata_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(beside_the_source(tmp_path, "SOURCES.txt"))
    with pytest.raises(CloudError, match="no metadata"):
        wheel()
