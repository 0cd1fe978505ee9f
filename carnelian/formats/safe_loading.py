"""Other people's files read as data: tensors out of pickles and members out of archives; nothing is run, nothing unpacked."""

import io
import pickle
import pickletools
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from carnelian.data.alphabet import Alphabet
from carnelian.errors import CheckpointError
from carnelian.files import reading

PICKLES = 6  # that follow each other in a file of PyTorch before 1.6
MEMBERS = 1000  # of an archive
EXPANSION = 50  # bytes of an archive's contents for each of its own; weights hardly shrink, so more is no checkpoint
SLACK = 2**26  # bytes of contents allowed however small the archive is


@dataclass(frozen=True)
class ForeignModel:
    """Another toolkit's model in our terms: recipe tables, alphabet, our names of the weights, and what the user should know."""

    recipe: dict[str, Any]
    alphabet: Alphabet
    weights: dict[str, Tensor]
    remarks: tuple[str, ...] = ()


class OpaqueObject(dict):
    """Stands for an object of a framework in a pickle: keeps what it was made of, and does nothing."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, *arguments: object):
        super().__init__()
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)


#: what settings saved beside weights are made of in Lightning, OmegaConf and argparse; all become `Inert`
OPAQUE = [
    "argparse.Namespace",
    "builtins.dict",
    "builtins.list",
    "builtins.tuple",
    "builtins.str",
    "builtins.int",
    "builtins.float",
    "builtins.bool",
    "builtins.object",
    "collections.defaultdict",
    "enum.Enum",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.base.SCMode",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "nemo.utils.callbacks.nemo_model_checkpoint.NeMoModelCheckpoint",
    "typing.Any",
    "typing.Union",
    "typing.Optional",
]


def plain(value: Any) -> Any:
    """Settings out of a pickle as plain dictionaries, lists and values; what is shared stays shared, what holds itself is cut."""
    done: dict[int, Any] = {}

    def convert(part: Any) -> Any:
        if not isinstance(part, Mapping | list | tuple):
            return part
        if id(part) not in done:
            done[id(part)] = None
            if isinstance(part, OpaqueObject) and ("_content" in part or "_val" in part):
                done[id(part)] = convert(part.get("_content", part.get("_val")))
            elif isinstance(part, Mapping):
                done[id(part)] = {str(key): convert(inner) for key, inner in part.items()}
            else:
                done[id(part)] = [convert(inner) for inner in part]
        return done[id(part)]

    try:
        return convert(value)
    except RecursionError:
        raise CheckpointError("its settings are nested without end. Is the file what it should be?") from None


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def refuse_bomb(name: str, data: bytes) -> None:
    """PyTorch stores its records as they are; a zip file that grows when read is something else."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as records:
            contents = sum(record.file_size for record in records.infolist())
        if contents > len(data):
            raise CheckpointError(
                f"{name}: {len(data)} bytes that claim to hold {contents}. PyTorch does not compress its files: not opened"
            )


def refuse_large_storages(name: str, data: bytes) -> None:
    """Refuses a pickle that claims a storage of more numbers than the file has bytes: memory is taken before they are read."""
    pickles = [data]
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as records:
            pickles = [records.read(each) for each in records.namelist() if each.endswith(".pkl")]
    largest = max(map(largest_storage, pickles), default=0)
    if largest > len(data):
        raise CheckpointError(f"{name}: {len(data)} bytes that claim a tensor of {largest} numbers. Is the file whole?")


def largest_storage(data: bytes) -> int:
    """The numbers of the largest storage that a pickle, or several that follow each other, refer to."""
    stream, number, largest = io.BytesIO(data), 0, 0
    with suppress(Exception):  # what is no pickle is refused by its reader
        for _ in range(PICKLES):
            for operation, argument, _ in pickletools.genops(stream):
                if isinstance(argument, int) and ("INT" in operation.name or "LONG" in operation.name):
                    number = argument
                elif operation.name in ("PERSID", "BINPERSID"):
                    largest = max(largest, number)
    return largest


def read_pickle(name: str, data: bytes) -> Any:
    """What `torch.save` wrote: tensors on the CPU, plain values, and settings' objects as `Inert`. Runs nothing.

    `name` is what errors call the data.
    """
    try:
        refuse_bomb(name, data)
        refuse_large_storages(name, data)
        with torch.serialization.safe_globals([(OpaqueObject, known) for known in OPAQUE]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except MemoryError:
        raise CheckpointError(f"{name}: claims tensors larger than this machine's memory. Is the file whole?") from None
    except Exception as error:  # a hostile or cut pickle can make the reader fail in any way
        foreign = re.search(r"GLOBAL (\S+?)(?: whose| was|$)", str(error))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise CheckpointError(
                f'{name}: holds a call of "{foreign[1]}", not only weights. A checkpoint is data, never code: nothing was run. '
                "Save the state dictionary alone, with torch.save(model.state_dict(), FILE)"
            ) from None
        if data[:2] == b"PK":
            raise CheckpointError(f"{name}: cut short or damaged ({len(data)} bytes). Get the file again") from None
        raise CheckpointError(
            f"{name}: no PyTorch checkpoint can be read from it. Expected a file written by torch.save; is it whole?"
        ) from None


def refuse_member(path: Path, member: tarfile.TarInfo) -> None:
    """An error for a member that no checkpoint has: outside of the archive's own folder, or neither file nor folder."""
    parts = PurePosixPath(member.name)
    if parts.is_absolute() or ".." in parts.parts:
        raise CheckpointError(
            f'{path}: its member "{member.name}" points out of the archive. Not a checkpoint: not opened'
        )
    if not (member.isfile() or member.isdir()):
        raise CheckpointError(f'{path}: its member "{member.name}" is a link or device. Expected files: not opened')


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of a tar archive, plain or gzip, by name without folders in front, all in memory.

    An archive whose contents are out of proportion to its size, or whose members escape it, is refused.
    """
    contents: dict[str, bytes] = {}
    total = 0
    try:
        limit = SLACK + EXPANSION * path.stat().st_size
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with tarfile.open(path, "r:gz" if zipped else "r:") as archive:
            for member in archive:
                refuse_member(path, member)
                total += member.size
                if total > limit or len(contents) >= MEMBERS:
                    raise CheckpointError(
                        f'{path}: more than a checkpoint of {path.stat().st_size} bytes holds (at "{member.name}"): not opened'
                    )
                data = archive.extractfile(member)
                if data is not None:
                    contents[str(PurePosixPath(member.name))] = data.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise CheckpointError(f"{path}: cut short or damaged ({first_line(error)}). Get the archive again") from None
    return contents


def check_tensors(name: str, weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same weights, each seen to be a dense tensor that owns all its numbers."""
    for key, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
            raise CheckpointError(
                f'{name}: "{key}" is no plain tensor but {type(tensor).__name__}. Expected weights alone'
            )
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f'{name}: "{key}" claims {tuple(tensor.shape)} numbers but holds fewer. Not opened')
    return dict(weights)


def read_file(path: Path) -> bytes:
    """A file's bytes, or one line saying that it is not there."""
    with reading(path, "another toolkit's checkpoint", CheckpointError):
        return path.read_bytes()
