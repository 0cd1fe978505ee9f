"""Pretrained models by short name: listed in `catalog.toml`, downloaded and imported once, then kept for use offline."""

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from carnelian import console, files
from carnelian.data.download import download
from carnelian.errors import CheckpointError, DownloadError
from carnelian.formats.detect import import_model
from carnelian.recipe import did_you_mean

MIRROR = "CARNELIAN_MIRROR"  # an environment variable


@dataclass(frozen=True, slots=True)
class PretrainedModel:
    """A published model: where it lies, what is known of its bytes, and what its publisher says of it.

    `address` is that of an archive; of the folder, ending in "/", where there are several `files`. `parameters` are millions, 0
    where unknown; `size` are bytes, 0 where unknown; `wer` is in percent, with the name of the test set.
    """

    name: str
    published: str
    language: str
    licence: str
    address: str
    parameters: float = 0.0
    wer: str = ""
    sample_rate: int = 16_000
    size: int = 0
    sha256: str = ""
    files: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The suffix of the archive; empty where there are several files."""
        return "" if self.files else Path(self.address).suffix

    def about(self) -> str:
        """Origin and licence in a few words."""
        return f"{self.published}, licence {self.licence}" + (f", published WER {self.wer}" if self.wer else "")


def read_catalog() -> tuple[str, dict[str, PretrainedModel]]:
    """(date of the list, the models by their short names)."""
    table = tomllib.loads(package_files("carnelian.formats").joinpath("catalog.toml").read_text("utf-8"))
    models = {}
    for name, row in table["models"].items():
        models[name] = PretrainedModel(name, **{**row, "files": tuple(row.get("files", ()))})
    return table["date"], models


def model_path(model: PretrainedModel) -> Path:
    """The path of a pretrained model's checkpoint, whether it is there or not."""
    return files.cache_folder() / "models" / f"{model.name}.safetensors"


def find_model(name: str) -> PretrainedModel | None:
    """The pretrained model of a short name, or of the name it was published under; None if there is none."""
    models = read_catalog()[1]
    return models.get(name) or next((model for model in models.values() if model.published == name), None)


def find_checkpoint(given: str | Path, address: str = "") -> Path:
    """The path of a checkpoint that a user gave: a path as it is; a pretrained model's name as that of its downloaded checkpoint.

    address: where to fetch it from, in place of the published one. Raises CheckpointError for a name that is neither.
    """
    if Path(given).exists():
        if address:
            raise CheckpointError(
                f"--from {address}: {given} is a file here. Give a pretrained model's name, or leave --from out"
            )
        return Path(given)
    model = find_model(str(given))
    if model:
        return fetch_model(model, address)
    path = Path(given)
    if path.suffix or len(path.parts) > 1:
        return path  # its reader says that there is none
    raise CheckpointError(
        f"{given}: neither a file nor a pretrained model.{did_you_mean(str(given), read_catalog()[1])}"
    )


def read_record(path: Path) -> dict[str, Any]:
    """What was noted of a model's download; nothing where there was none."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def fetch_model(model: PretrainedModel, address: str = "") -> Path:
    """Downloads and imports a pretrained model unless it is there, and returns the path of its checkpoint.

    Its bytes are compared with the known checksum, or else with that of the first download, which is kept. The archive is removed
    when its checkpoint is written. Raises DownloadError and CheckpointError; what was kept before stays.
    """
    path = model_path(model)
    if path.exists():
        return path
    record = read_record(path.with_suffix(".json"))
    known = model.sha256 or str(record.get("sha256", ""))
    folder = path.parent / "downloads"
    archive = folder / f"{model.name}{model.suffix}"
    console.note(f"{model.name}: downloading {model.about()}")
    if model.files:
        receive_files(model, archive, address)
        found = folder_checksum(archive, model.files)
        if known and found != known:
            shutil.rmtree(archive, ignore_errors=True)
            raise DownloadError(
                f"{model.name}: the checksum of its files is {found}, before it was {known}. {OTHER_BYTES}"
            )
    else:
        addresses = addresses_of(model, Path(model.address).name, address)
        download(
            addresses, archive, size=model.size, checksum=f"sha256:{known}" if known else "", trusted=trusted(address)
        )
        found = known or file_checksum(archive)
    try:
        imported = import_model(archive, path)
    finally:  # what cannot be read will not be read next time
        shutil.rmtree(archive, ignore_errors=True) if model.files else archive.unlink(missing_ok=True)
    note = {
        "name": model.name,
        "published": model.published,
        "address": address or model.address,
        "sha256": found,
        "licence": model.licence,
        "date": date.today().isoformat(),
    }
    with files.written(path.with_suffix(".json")) as file:
        json.dump(note, file, indent=1)
    for remark in imported.remarks:
        console.note(f"{model.name}: {remark}")
    console.note(f"{model.name}: kept in {path}, works offline from now on; sha256 {found}")
    return path


OTHER_BYTES = "The publisher may have changed it; remove the note beside the model to accept the new bytes"


def trusted(address: str) -> list[str]:
    """The addresses that the user gave, whose hosts may be private."""
    return [given for given in (address, os.environ.get(MIRROR, "")) if given]


def addresses_of(model: PretrainedModel, name: str, address: str) -> list[str]:
    """Where a file of a model is looked for: the given address alone, or the mirror's and then the published one."""
    if address:
        return [f"{address.rstrip('/')}/{name}" if model.files or address.endswith("/") else address]
    published = f"{model.address}{name}" if model.files else model.address
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    return (
        [f"{mirror}/{model.name}/{name}" if model.files else f"{mirror}/{name}", published] if mirror else [published]
    )


def receive_files(model: PretrainedModel, folder: Path, address: str) -> None:
    """Downloads the several files of a model into a folder."""
    for name in model.files:
        download(addresses_of(model, name, address), folder / name, trusted=trusted(address))


def file_checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_checksum(folder: Path, names: Sequence[str]) -> str:
    """One SHA-256 of several files of a folder."""
    return hashlib.sha256("".join(file_checksum(folder / name) for name in names).encode()).hexdigest()
