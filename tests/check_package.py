"""Looks into the wheel and the sdist, installs the wheel into an empty environment, and does the main job from another folder.

python tests/check_package.py dist
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_SDIST = (
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "docs/ARCHITECTURE.md",
    "tests/test_floors.py",
)
QUICKSTART = ["quickstart", "--folder", "quickstart"]


def sources() -> set[str]:
    """Returns the files of the package that git knows, without what only the repository needs."""
    listed = subprocess.run(["git", "ls-files", "carnelian"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\n")) - {""}


def main(dist: Path) -> None:
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    missing = sources() - set(zipfile.ZipFile(wheel).namelist())
    assert not missing, f"{wheel.name} lacks {sorted(missing)[:5]}"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = (sources() | set(IN_SDIST)) - names
    assert not missing, f"{sdist.name} lacks {sorted(missing)[:5]}"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(Path(folder) / "venv", with_pip=True)
        python, carnelian = (str(Path(folder) / "venv" / "bin" / name) for name in ("python", "carnelian"))
        constraint = ["--constraint", str(ROOT / "constraints.txt")]
        install = [python, "-m", "pip", "install", "--quiet", *constraint, f"{wheel.resolve()}[quickstart]"]
        subprocess.run(install, check=True)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        for words in (["--version"], ["recipes", "list"], ["info", "an4/quartznet"], QUICKSTART):
            subprocess.run([carnelian, *words], cwd=folder, env=environment, check=True)
        assert (Path(folder) / "quickstart" / "run" / "recipe.json").exists()
    print("the package is complete and works from another folder")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
