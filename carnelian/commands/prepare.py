"""Manifests from a corpus: `carnelian prepare an4 SOURCE OUT`."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from carnelian.console import duration_text, note, table, track
from carnelian.corpora.an4 import an4
from carnelian.corpora.common_voice import common_voice
from carnelian.corpora.folder import folder
from carnelian.corpora.hold_out import hold_out_recordings, hold_out_speakers
from carnelian.corpora.hugging_face import datasets_folder
from carnelian.corpora.kaldi import kaldi
from carnelian.corpora.ldc.discs import convert_compressed
from carnelian.corpora.ldc.fisher import fisher
from carnelian.corpora.ldc.hub5 import HUB5_COUNTS, hub5, hub5_references
from carnelian.corpora.ldc.switchboard import switchboard
from carnelian.corpora.ldc.wsj import WSJ_COUNTS, wsj
from carnelian.corpora.lhotse import lhotse
from carnelian.corpora.librispeech import LIBRISPEECH_COUNTS, librispeech
from carnelian.corpora.mls import mls
from carnelian.corpora.tedlium import tedlium
from carnelian.corpora.voxforge import voxforge
from carnelian.data.audio import AudioInfo, audio_info
from carnelian.data.text.names import NORMALIZE_HELP, make_normalizer
from carnelian.data.text.report import NormalizationReport, Normalizer
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import AudioError, ManifestError
from carnelian.files import one_line, reading, written
from carnelian.parallel import in_parallel

SEGMENT_SLACK = 0.5  # seconds by which a segment may go beyond its recording and is cut to it; more is a fault


@dataclass(frozen=True, slots=True)
class CorpusReader:
    """How a corpus is read: its subsets, their published numbers of utterances, and references for scoring programs."""

    read: Callable[..., dict[str, Iterator[Utterance]]]
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    references: Callable[[Path], dict[str, str]] | None = None


CORPORA = {
    "an4": CorpusReader(an4),
    "librispeech": CorpusReader(librispeech, LIBRISPEECH_COUNTS),
    "wsj": CorpusReader(wsj, WSJ_COUNTS),
    "hub5": CorpusReader(hub5, HUB5_COUNTS, hub5_references),
    "switchboard": CorpusReader(switchboard),
    "fisher": CorpusReader(fisher),
    "common-voice": CorpusReader(common_voice),
    "mls": CorpusReader(mls),
    "voxforge": CorpusReader(voxforge),
    "tedlium": CorpusReader(tedlium),
    "kaldi": CorpusReader(kaldi),
    "lhotse": CorpusReader(lhotse),
    "hugging-face": CorpusReader(datasets_folder),
    "folder": CorpusReader(folder),
}


def prepare(
    corpus: Annotated[str, f"the corpus: {', '.join(CORPORA)}"],
    source: Annotated[Path, "where it lies unpacked (folder: a tree of audio with .txt beside it, or a CSV or TSV)"],
    out: Annotated[Path, "the folder for the manifests, one SUBSET.jsonl each"],
    *,
    download: Annotated[str, 'librispeech: the parts to fetch first, such as "dev-clean,test-clean", or "all"'] = "",
    mirror: Annotated[list[str], "librispeech: fetch from the folder at this address instead; may be given again"] = [],  # noqa: B006
    allow_pipes: Annotated[bool, "kaldi: run the commands in wav.scp"] = False,
    channels: Annotated[
        str, "folder: 1, 2, ..., mix (the average), or separate: an utterance for each channel, with its own text"
    ] = "",
    normalize: Annotated[str, NORMALIZE_HELP] = "",
    overwrite: Annotated[bool, "replace manifests that exist"] = False,
    convert: Annotated[
        bool, "write recordings compressed with shorten as FLAC into OUT/audio, which a training reads faster"
    ] = False,
    hold_out: Annotated[int, "number of speakers of `train` (or `all`) to move to `dev`, to choose settings by"] = 0,
    hold_out_share: Annotated[
        float, "or a share of its recordings at random, such as 0.1, where speakers are not known"
    ] = 0.0,
    speaker_pattern: Annotated[
        str, "folder: a regular expression whose first group in a recording's path is its speaker, such as '^([^/_]+)_'"
    ] = "",
) -> None:
    """Write a manifest for each subset of a corpus; the audio stays where it is.

    Example: carnelian prepare an4 PATH/TO/an4 data/an4
    """
    if corpus not in CORPORA:
        raise ManifestError(f'corpus "{corpus}": not known. Take one of {", ".join(CORPORA)}')
    if hold_out and hold_out_share:
        raise ManifestError("--hold-out and --hold-out-share: give one of them, speakers or recordings")
    options = {"download": download, "mirror": mirror, "allow_pipes": allow_pipes, "channels": channels}
    options["speaker_pattern"] = speaker_pattern
    normalizer = make_normalizer(normalize) if normalize else None
    with reading(source, f"the corpus {corpus}", ManifestError):
        readers = read_corpus(corpus, source, out, options)
    divided = subset_to_divide(corpus, list(readers)) if hold_out or hold_out_share else ""
    names = [name for name in readers if name != divided] + (["train", "dev"] if divided else [])
    existing = [out / f"{name}.jsonl" for name in names if (out / f"{name}.jsonl").exists()]
    if existing and not overwrite:
        raise ManifestError(f"{existing[0]}: exists. Give another folder, or --overwrite")
    subsets, left_out = usable_subsets(corpus, source, readers, normalizer, divided)
    if divided:
        whole, left_out["train"] = subsets.pop(divided), left_out.pop(divided)
        parts = hold_out_speakers(whole, hold_out) if hold_out else hold_out_recordings(whole, hold_out_share)
        subsets = {"train": parts[0], "dev": parts[1], **subsets}
    if convert:
        subsets = convert_compressed(subsets, out / "audio")
    write_manifests(corpus, source, out, subsets, left_out)


def usable_subsets(
    corpus: str,
    source: Path,
    readers: dict[str, Iterator[Utterance]],
    normalizer: Normalizer | None,
    needed: str,
) -> tuple[dict[str, list[Utterance]], dict[str, int]]:
    """The subsets of which there is something, measured and normalised, and how many utterances of each are left out.

    Raises ManifestError where nothing is there at all, or nothing of the subset `needed`.
    """
    subsets, left_out, empty = {}, {}, []
    for subset, utterances in readers.items():
        with reading(source, f"the corpus {corpus}", ManifestError):
            listed = list(utterances)
        kept, unreadable = measure_durations(listed, subset)
        if not kept:
            first = f"none of {len(unreadable)} recordings can be read; first: {unreadable[0]}" if unreadable else ""
            empty.append(one_line(f"{source}: {subset}: {first or 'no utterance of it is there'}"))
            continue
        if unreadable:
            note(f"{subset}: {len(unreadable)} recordings cannot be read and are left out; first: {unreadable[0]}")
        note_count(subset, len(kept), CORPORA[corpus].counts.get(subset, ()))
        spoken = normalize_texts(kept, normalizer, subset) if normalizer else kept
        subsets[subset], left_out[subset] = spoken, len(unreadable) + len(kept) - len(spoken)
    if not subsets or (needed and needed not in subsets):
        raise ManifestError(empty[0])
    for line in empty:
        note(f"{line}; it is left out")
    return subsets, left_out


def subset_to_divide(corpus: str, subsets: Sequence[str]) -> str:
    """The subset of which a part is held out: `train`, `all`, or the only one. ManifestError where none is, or a `dev`."""
    whole = next((name for name in ("train", "all", *subsets[:1]) if name in subsets), "")
    if "dev" in subsets or (whole not in ("train", "all") and len(subsets) > 1):
        raise ManifestError(f"--hold-out makes a `dev` of a part of `train`; {corpus} has {', '.join(subsets)} here")
    return whole


def write_manifests(
    corpus: str, source: Path, out: Path, subsets: dict[str, list[Utterance]], left_out: dict[str, int]
) -> None:
    """Writes the manifests and a corpus's references for scoring, and prints what they hold."""
    references = CORPORA[corpus].references
    texts = references(source) if references else {}  # before anything is written
    rows = []
    for subset, kept in subsets.items():
        write_manifest(out / f"{subset}.jsonl", kept)
        duration = duration_text(sum(utterance.duration for utterance in kept))
        rows.append((f"{subset}.jsonl", len(kept), duration, left_out.get(subset, 0)))
    for name, text in texts.items():
        with written(out / name) as file:
            file.write(text)
        note(f"{out / name}: for scoring")
    table(f"{corpus} in {out}", ("manifest", "utterances", "duration", "left out"), rows)


def read_corpus(corpus: str, source: Path, out: Path, options: dict[str, Any]) -> dict[str, Iterator[Utterance]]:
    """The subsets of a corpus, read with those options that were given; ManifestError for one that it does not have."""
    read = CORPORA[corpus].read
    known = inspect.signature(read).parameters
    given = {name: value for name, value in options.items() if value}
    for name in given:
        if name not in known:
            having = [each for each in CORPORA if name in inspect.signature(CORPORA[each].read).parameters]
            raise ManifestError(f"--{name.replace('_', '-')}: not for {corpus}, only for {', '.join(having)}")
    if not source.exists() and "download" not in given:
        raise ManifestError(f"{source}: no such file or folder. Give where the corpus {corpus} lies")
    return read(source, **given, **({"out": out} if "out" in known else {}))


def note_count(subset: str, found: int, published: Sequence[int]) -> None:
    """Notes a number of utterances that is not the published one."""
    if published and found not in published:
        expected = " or ".join(f"{count:,}" for count in published)
        less = f", {published[0] - found:,} are missing" if found < min(published) else ""
        note(f"{subset}: {found:,} utterances, published are {expected}{less}")


def normalize_texts(utterances: list[Utterance], normalizer: Normalizer, subset: str) -> list[Utterance]:
    """The utterances with normalised texts, without those of which no text is left; noted is what was done.

    The normalisation's name and version are kept in the manifest as "normalization".
    """
    report, kept = NormalizationReport(), []
    for utterance in utterances:
        text = normalizer(utterance.text, report)
        if text:
            more = utterance.more | {"normalization": normalizer.label}
            kept.append(replace(utterance, text=text, more=more))
    done = ", ".join(f"{name} {value}" for name, value in report.rows()[2:])
    note(f"{subset}: normalised as {normalizer.label}: {done or 'nothing changed'}")
    if not kept:
        raise ManifestError(f"{subset}: no text is left of {len(utterances)}. Give another --normalize")
    return kept


def measure_durations(utterances: list[Utterance], subset: str) -> tuple[list[Utterance], list[AudioError]]:
    """The utterances with their durations, and what was wrong with those that cannot be read.

    An utterance without a duration lasts to the end of its recording; one with a duration is checked against it. Recordings
    with several channels that will be averaged are counted in a note.
    """

    def measured(path: str) -> AudioInfo | AudioError:
        try:
            return audio_info(path)
        except AudioError as error:
            return error

    paths = list(dict.fromkeys(utterance.audio_filepath for utterance in utterances))
    infos = dict(zip(paths, track(in_parallel(measured, paths), f"Reading {subset}", len(paths))))
    results = [place_in(utterance, infos[utterance.audio_filepath]) for utterance in utterances]
    kept = [result for result in results if isinstance(result, Utterance)]
    mixed = Counter(infos[each.audio_filepath].channels for each in kept if "channel" not in each.more)  # type: ignore[union-attr]
    several = sum(count for channels, count in mixed.items() if channels > 1)
    if several:
        note(f"{subset}: {several} recordings have several channels, which will be averaged. See --channels")
    return kept, [result for result in results if isinstance(result, AudioError)]


def place_in(utterance: Utterance, info: AudioInfo | AudioError) -> Utterance | AudioError:
    """The utterance with its duration inside the recording, or what is wrong with it."""
    if isinstance(info, AudioError):
        return info
    name, left = utterance.audio_filepath, info.duration - utterance.offset
    if not (0 <= utterance.offset < math.inf and 0 <= utterance.duration < math.inf):
        return AudioError(f"{name}: a segment from {utterance.offset} s, {utterance.duration} s long. Fix its times")
    if not info.frames:
        return AudioError(f"{name}: 0 s of sound")
    if left <= 0 or utterance.duration > left + SEGMENT_SLACK:
        end = utterance.offset + utterance.duration
        return AudioError(f"{name}: {utterance.offset:.2f} to {end:.2f} s is not in it, it has {info.duration:.2f} s")
    if (channel := utterance.more.get("channel")) is not None and channel >= info.channels:
        return AudioError(f"{name}: channel {channel + 1} is not in it, it has {info.channels}")
    return replace(utterance, duration=min(utterance.duration, left) if utterance.duration else left)
