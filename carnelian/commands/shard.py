"""Tar shards from manifests, or a manifest for shards that have none: `carnelian shard train.jsonl --out DIR`."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian.console import duration_text, table, track
from carnelian.data.audio import audio_info, load_audio
from carnelian.data.recording import encode_audio
from carnelian.data.shards import Shard, write_shard
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.errors import ManifestError
from carnelian.files import check_outputs, one_line, reason_of

SECONDS = 5400
"""How much speech goes into a shard if not told: about 170 MB of FLAC."""
TEXT_SUFFIXES = ("json", "txt", "text", "lab")


def shard(
    source: Annotated[list[str], "the manifests; or WebDataset shards (.tar), to write a manifest for them"],
    *,
    out: Annotated[Path, "the folder for the shards and their manifest.jsonl"],
    shards: Annotated[int, "how many shards to write; 0: as many as hold an hour and a half each"] = 0,
    seed: Annotated[int, "of the chance by which utterances are spread over the shards"] = 0,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Pack a corpus into tar shards (WebDataset's layout and NeMo's at once), for fast reading in long runs.

    Example: carnelian shard data/an4/train.jsonl --out data/an4/shards
    """
    listed = out / "manifest.jsonl"
    check_outputs(listed, overwrite=overwrite)
    if all(path.endswith(".tar") for path in source):
        write_manifest(
            listed,
            (found for number, tar in enumerate(track(source, "Reading")) for found in describe_shards(tar, number)),
        )
    else:
        write_manifest(listed, write_shards(Manifest(*source), out, shards, seed))
    packed = Manifest(listed)
    duration = duration_text(packed.durations.sum(dtype=float))
    table(str(listed), ("utterances", "duration", "shards"), [(len(packed), duration, len(np.unique(packed.shards)))])


def write_shards(manifest: Manifest, out: Path, shards: int, seed: int) -> Iterator[Utterance]:
    """Writes the shards and gives the utterances as they lie in them."""
    if not 0 <= shards <= len(manifest) or not len(manifest):
        raise ManifestError(f"--shards {shards}: give 1 to {len(manifest)}, the number of utterances")
    shards = shards or min(len(manifest), 1 + int(manifest.durations.sum(dtype=float) // SECONDS))
    parts = np.array_split(np.random.default_rng(seed).permutation(len(manifest)), shards)
    for number, part in enumerate(track(parts, "Writing shards")):
        path, packed = out / f"shard_{number:05d}.tar", list[Utterance]()
        write_shard(path, pack(((int(index), manifest[int(index)]) for index in part), path, number, packed))
        yield from packed


def pack(
    utterances: Iterator[tuple[int, Utterance]], path: Path, number: int, packed: list[Utterance]
) -> Iterator[tuple[str, bytes]]:
    """A shard's files: each utterance's audio and its manifest line; appends the utterance inside it to `packed`."""
    for index, utterance in utterances:
        audio, extension = audio_bytes(utterance)
        # WebDataset takes a name up to its first dot as the key; the index keeps keys apart
        key = f"{index:08d}-{Path(utterance.audio_filepath).stem.replace('.', '_')}"
        more = {name: value for name, value in utterance.more.items() if name != "channel"} | {"shard_id": number}
        packed.append(replace(utterance, audio_filepath=f"{path}/{key}{extension}", offset=0.0, more=more))
        line = {"audio_filepath": key + extension, "duration": utterance.duration, "text": utterance.text} | more
        yield key + extension, audio
        yield f"{key}.json", json.dumps(line, ensure_ascii=False).encode()


def audio_bytes(utterance: Utterance) -> tuple[bytes, str]:
    """An utterance's audio and its extension: a whole file as it is; a stretch or a channel cut out, as FLAC."""
    path, info = utterance.audio_filepath, audio_info(utterance)
    if abs(info.duration - utterance.duration) < 0.05 and "channel" not in utterance.more and os.path.isfile(path):
        return Path(path).read_bytes(), Path(path).suffix.lower()
    return encode_audio(load_audio(utterance, info.sample_rate), info.sample_rate, "flac"), ".flac"


def describe_shards(tar: str, number: int) -> Iterator[Utterance]:
    """The utterances of a WebDataset shard: text from its .json ("text") or .txt files, durations from the audio."""
    opened = Shard(tar)
    for key, group in groupby(opened.members, key=lambda name: name[: name.find(".", name.rfind("/") + 1)]):
        names = {name[len(key) + 1 :].lower(): name for name in group}
        texts = [opened.read(names.pop(kind)).decode("utf-8", "replace") for kind in TEXT_SUFFIXES if kind in names]
        try:
            more = json.loads(texts[0]) if texts and texts[0].startswith("{") else {"text": "".join(texts[:1]).strip()}
            if not isinstance(more, dict):
                raise ValueError(f"a JSON {type(more).__name__}")
        except (ValueError, RecursionError) as error:
            reason = reason_of(error)
            raise ManifestError(one_line(f"{tar}: {key}.json is no JSON ({reason}). Write the shard again")) from None
        text = str(more.get("text", ""))
        kept = {name: value for name, value in more.items() if name not in ("audio_filepath", "duration", "text")}
        for name in names.values():
            recording = f"{tar}/{name}"
            yield Utterance(recording, audio_info(recording).duration, text, more=kept | {"shard_id": number})
