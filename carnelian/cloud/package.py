"""This very package as a wheel, so that the machines run the code of the one who launches them."""

import base64
import hashlib
import zipfile
from importlib import metadata, resources
from io import BytesIO
from pathlib import Path

from carnelian import __version__
from carnelian.errors import CloudError

EPOCH = (2020, 1, 1, 0, 0, 0)
"""The time given to each file, so that the same code gives the same bytes."""


def wheel() -> tuple[str, bytes]:
    """Name and content of a wheel of the package that is running, recipes and templates included."""
    folder = Path(str(resources.files("carnelian")))
    about = f"carnelian-{__version__}.dist-info"
    content = {
        f"carnelian/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    content[f"{about}/METADATA"] = core_metadata().encode()
    content[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: carnelian\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{about}/entry_points.txt"] = b"[console_scripts]\ncarnelian = carnelian.cli:main\n"
    lines = [f"{name},sha256={record_hash(data)},{len(data)}\n" for name, data in content.items()]
    content[f"{about}/RECORD"] = ("".join(lines) + f"{about}/RECORD,,\n").encode()
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
    return f"carnelian-{__version__}-py3-none-any.whl", file.getvalue()


def core_metadata() -> str:
    """The package's core metadata: those of an installation, or of the .egg-info beside its source, which Python finds first there."""
    found = metadata.distribution("carnelian")
    text = found.read_text("METADATA") or found.read_text("PKG-INFO")
    if not text:
        raise CloudError(
            "carnelian: its installation has no metadata. Install it again: pip install --force-reinstall carnelian"
        )
    return text


def record_hash(data: bytes) -> str:
    """A file's hash as a wheel's RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
