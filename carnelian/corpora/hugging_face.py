"""Folders of Hugging Face's `datasets`: audio folders with metadata, Parquet files, Arrow tables. The only importer of pyarrow."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from carnelian.console import note
from carnelian.corpora.folder import COLUMNS, PATHS, TEXT_COLUMNS
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError, MissingExtraError
from carnelian.files import reason_of, written

ARROW_TABLES = (".parquet", ".arrow")
AUDIOFOLDER_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NUMBERED = re.compile(r"-\d{5}-of-\d{5}")
COLUMNS_OF_TEXT = (*TEXT_COLUMNS, "normalized_text", "raw_transcription", "raw_text", "words")


def datasets_folder(folder: Path, *, out: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets (splits) of a folder that `datasets` loads or has saved.

    That is an audio folder (recordings, and a metadata.csv or .jsonl with `file_name` and a text), Parquet files as on the hub,
    or what `save_to_disk` wrote. Recordings inside a table are written to `out`/audio.
    """
    if not folder.is_dir():
        raise ManifestError(
            f"{folder}: no such folder. Give a folder that datasets.load_dataset or load_from_disk reads"
        )
    metadata = sorted(path for name in AUDIOFOLDER_METADATA for path in folder.rglob(name))
    if metadata:
        names = Counter(split_of_folder(path.parent, folder) for path in metadata)
        twice = {path for path in metadata if names[split_of_folder(path.parent, folder)] > 1}  # en/train and es/train
        return {
            "_".join(path.parent.relative_to(folder).parts)
            if path in twice
            else split_of_folder(path.parent, folder): (read_metadata(path))
            for path in metadata
        }
    tables = sorted(path for path in folder.rglob("*") if path.suffix in ARROW_TABLES and "cache-" not in path.name)
    if not tables:
        raise ManifestError(f"{folder}: no metadata.csv, metadata.jsonl, .parquet or .arrow file in it")
    splits: dict[str, list[Path]] = {}
    for path in tables:
        splits.setdefault(table_split(path, folder), []).append(path)
    return {split: read_tables(paths, out / "audio" / split) for split, paths in splits.items()}


def split_of_folder(parent: Path, folder: Path) -> str:
    """The split of a folder with metadata: its name, or "train" for the whole."""
    return parent.name if parent != folder else "train"


def table_split(path: Path, folder: Path) -> str:
    """The split of a table: `data/test-00000-of-00001.parquet` and `test/data-00000-of-00001.arrow` are of "test"."""
    name = NUMBERED.sub("", path.stem)
    if name in ("data", "dataset", "0000", "partial"):
        return split_of_folder(path.parent, folder)
    return name.rsplit(".", 1)[-1]


def read_metadata(path: Path) -> Iterator[Utterance]:
    """The utterances that a metadata file lists beside its recordings."""
    if path.suffix == ".parquet":
        rows: Iterable[dict] = (row for batch in read_batches([path]) for row in batch)
    else:
        rows = read_rows(path)
    missing = 0
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ManifestError(f"{path}: line {number} is no JSON object. Write it again with datasets")
        name, text = first_column(row, PATHS), first_column(row, COLUMNS_OF_TEXT)
        if not isinstance(name, str) or text is None:
            found = ", ".join(map(str, row))
            raise ManifestError(
                f"{path}: line {number} has {found}; expected file_name and one of {', '.join(TEXT_COLUMNS)}"
            )
        audio = path.parent / name
        missing += not audio.is_file()
        yield Utterance(str(audio), 0.0, str(text), more=kept_columns(row))
    if missing:
        note(f"{path}: {missing} of {number} recordings are not there")


def read_rows(path: Path) -> Iterator[dict]:
    """The rows of a CSV or JSON-lines file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
            else:
                yield from (json.loads(line) for line in file if line.strip())
    except (OSError, ValueError, csv.Error) as error:
        raise ManifestError(
            f"{path}: cannot be read ({reason_of(error)}). Give a CSV or JSON lines, in UTF-8"
        ) from None


def read_tables(paths: list[Path], folder: Path) -> Iterator[Utterance]:
    """The utterances of tables; a recording that lies inside is written to the folder."""
    number = 0
    for rows in read_batches(paths):
        for row in rows:
            audio = next(
                (value for value in row.values() if isinstance(value, dict) and {"bytes", "path"} & set(value)), None
            )
            text = first_column(row, COLUMNS_OF_TEXT)
            if audio is None or text is None:
                raise ManifestError(
                    f"{paths[0]}: its columns are {', '.join(row)}; expected an Audio column and one of {', '.join(TEXT_COLUMNS)}"
                )
            name = Path(str(audio.get("path") or first_column(row, ("id", "file")) or f"{number:08d}"))
            target = folder / f"{number:08d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name.name)}"
            if content := audio.get("bytes"):
                if not target.is_file() or target.stat().st_size != len(content):
                    with written(target, "wb", force=False) as file:
                        file.write(content)
                path = str(target)
            else:
                path = str(name)
            number += 1
            yield Utterance(path, 0.0, str(text), more=kept_columns(row))


def read_batches(paths: list[Path]) -> Iterator[list[dict]]:
    """The rows of Parquet or Arrow files, some hundred at a time."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "datasets", "Reading Parquet and Arrow tables") from None
    for path in paths:
        try:
            if path.suffix == ".parquet":
                with pyarrow.parquet.ParquetFile(path) as table:
                    yield from (batch.to_pylist() for batch in table.iter_batches(batch_size=256))
            else:
                with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
                    yield from (batch.to_pylist() for batch in stream)
        except (pyarrow.ArrowException, OSError) as error:
            raise ManifestError(
                f"{path}: not a table that can be read ({reason_of(error)}). Download or save it again"
            ) from None


def first_column(row: dict[str, Any], names: Iterable[str]) -> Any:
    """The first column that is there of several names."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def kept_columns(row: dict[str, Any]) -> dict[str, Any]:
    """What a manifest keeps of a row: its speaker and its id."""
    speaker, name = first_column(row, COLUMNS["speaker"]), first_column(row, ("id", "utterance_id"))
    found = {"speaker": str(speaker) if speaker is not None else "", "id": str(name) if name is not None else ""}
    return {key: value for key, value in found.items() if value}
