"""Kaldi data directories, read and written: wav.scp, segments, text, utt2spk and their kin. The only importer of kaldiio."""

import os
import re
import shlex
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from carnelian.console import note
from carnelian.data.audio import audio_info
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError, ManifestError, MissingExtraError
from carnelian.files import written

ARCHIVE_ENTRY = re.compile(r".*\.ark:\d+")
RESERVED = re.compile(r"(?<!\w)(?:</?s>|#0)(?!\w)", re.ASCII)
"""Symbols that Kaldi keeps for itself. Its scripts find them by `grep -w`, also beside other signs: "(<s>)"."""
SHORTEST_SEGMENT = 0.002  # seconds; times are written in milliseconds, and a segment must not end where it begins
DECODERS = ("flac", "cat", "sph2pipe")
"""Programs whose part we take over: the file that they would convert is read here."""


@dataclass(frozen=True, slots=True)
class WavSource:
    """The file of a recording, and the channel to take of it (None: all)."""

    path: str
    channel: int | None = None


def kaldi(folder: Path, *, allow_pipes: bool = False, out: Path | None = None) -> dict[str, Iterator[Utterance]]:
    """The subsets: the data directory itself (it has a wav.scp), or each one below it (data/train, data/test).

    allow_pipes: run the commands that wav.scp may hold (`rec-id command |`) and keep what they write in `out`/audio; of
    `flac`, `cat` and `sph2pipe` the file is read directly instead. Without it a command is refused.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder. Give a Kaldi data directory, or the folder that holds several")
    found = [folder] if (folder / "wav.scp").is_file() else sorted(path.parent for path in folder.glob("*/wav.scp"))
    if not found:
        raise ManifestError(f"{folder}: no wav.scp in it or one folder below. Give a Kaldi data directory")
    audio = out / "audio" if out and allow_pipes else None
    return {each.name: read_directory(each, allow_pipes, audio) for each in found}


def read_directory(folder: Path, allow_pipes: bool, audio: Path | None) -> Iterator[Utterance]:
    """The utterances of a data directory, in the order of its segments or recordings."""
    sources = {}
    for recording, value in read_kaldi_table(folder / "wav.scp").items():
        sources[recording] = find_source(value, recording, folder, allow_pipes, audio)
    channels = {
        key: value.rpartition(" ")[2]
        for key, value in read_kaldi_table(folder / "reco2file_and_channel", False).items()
    }
    shared = Counter(source.path for source in sources.values())
    texts = read_kaldi_table(folder / "text", False)
    speakers = read_kaldi_table(folder / "utt2spk", False)
    missing, unused = [], dict.fromkeys(texts)
    for name, recording, start, end, channel in read_segments(folder, sources):
        source = sources[recording]
        unused.pop(name, None)
        if channel is None:
            channel = source.channel
        if channel is None and shared[source.path] > 1 and channels.get(recording) in ("A", "B"):
            channel = "AB".index(channels[recording])
        if texts and name not in texts:
            missing.append(name)
            continue
        more: dict[str, Any] = {"id": name, "speaker": speakers.get(name, name)}
        if channel is not None:
            more["channel"] = channel
        yield Utterance(source.path, max(0.0, end - start), texts.get(name, ""), start, more)
    if missing:
        note(f"{folder}: {len(missing)} utterances have no line in text and are left out; the first is {missing[0]}")
    if unused:
        note(f"{folder}: {len(unused)} lines of text have no utterance; the first is {next(iter(unused))}")


def read_segments(folder: Path, sources: dict[str, WavSource]) -> Iterator[tuple[str, str, float, float, int | None]]:
    """Name, recording, start, end (0 with start 0: the whole) and channel of each utterance."""
    if not (folder / "segments").is_file():
        yield from ((recording, recording, 0.0, 0.0, None) for recording in sources)
        return
    for name, value in read_kaldi_table(folder / "segments").items():
        fields = value.split()
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
            channel = int(fields[3]) if len(fields) > 3 else None
        except (IndexError, ValueError):
            raise ManifestError(
                f"{folder}/segments: {name} {value[:60]}, expected UTTERANCE RECORDING START END"
            ) from None
        if recording not in sources:
            raise ManifestError(
                f"{folder}/segments: {name} is of the recording {recording}, which wav.scp does not have"
            )
        if end >= 0 and end <= start:
            raise ManifestError(
                f"{folder}/segments: {name} ends at {end} s, before its start. Run fix_data_dir.sh on it"
            )
        yield name, recording, start, end if end >= 0 else start, None if channel in (None, -1) else channel


def read_kaldi_table(path: Path, required: bool = True) -> dict[str, str]:
    """The lines `KEY VALUE` of a file by their keys; a key without a value has an empty one."""
    if not required and not path.is_file():
        return {}
    table = {}
    for line in read_corpus_lines(path):
        key, _, value = line.replace("\t", " ", 1).partition(" ")
        if key in table:
            raise ManifestError(f"{path}: {key} is there twice. Run Kaldi's fix_data_dir.sh on its folder")
        table[key] = value.strip()
    return table


def find_source(value: str, recording: str, folder: Path, allow_pipes: bool, audio: Path | None) -> WavSource:
    """The file that a line of wav.scp names, or that its command writes."""
    if not value.endswith("|"):
        if ARCHIVE_ENTRY.fullmatch(value):
            raise ManifestError(
                f"{folder}/wav.scp: {recording} lies in an archive ({value}). Unpack it with Kaldi's wav-copy"
            )
        return WavSource(find_path(value, folder))
    command = value.rstrip("|").strip()
    if not allow_pipes:
        raise ManifestError(
            f'{folder}/wav.scp: {recording} is a command, "{command[:60]}". Give --allow-pipes if you trust this file'
        )
    if (source := known_command(command, folder)) is not None:
        return source
    if audio is None:
        raise ManifestError(f"{folder}/wav.scp: {recording} is a command, and there is no folder to keep its output in")
    path = audio / f"{quote(recording, safe='')}.wav"
    run = subprocess.run(["bash", "-c", command], capture_output=True)
    if run.returncode or not run.stdout:
        lines = run.stderr.decode(errors="replace").strip().splitlines()
        raise ManifestError(
            f"{folder}/wav.scp: the command of {recording} failed ({lines[-1] if lines else 'no output'})"
        )
    with written(path, "wb") as file:
        file.write(run.stdout)
    return WavSource(str(path))


def known_command(command: str, folder: Path) -> WavSource | None:
    """The file that `flac`, `cat` or `sph2pipe` would convert, or a command of our own export; None for any other command."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    literal = shlex.join(words) == command or not set("|;&<>$`(") & set(command)  # nothing for a shell to expand
    match words if literal else []:
        case ["sox", name, "-t", "wav", "-", "remix", number] if number.isdecimal():  # as `wav_line` writes it
            return WavSource(find_path(name, folder), int(number) - 1)
        case ["ffmpeg", "-v", "8", "-i", name, "-f", "wav", "-acodec", "pcm_s16le", "-"]:  # likewise
            return WavSource(find_path(name, folder))
    if not words or os.path.basename(words[0]) not in DECODERS or not literal:
        return None
    files, channel, index = [], None, 1
    while index < len(words):
        word = words[index]
        if word in ("-c", "-f", "-t", "-s") and os.path.basename(words[0]) == "sph2pipe":
            if word in ("-t", "-s") or index + 1 == len(words):
                return None
            channel = int(words[index + 1]) - 1 if word == "-c" and words[index + 1].isdigit() else channel
            index += 1
        elif not word.startswith("-"):
            files.append(word)
        index += 1
    return WavSource(find_path(files[0], folder), channel) if len(files) == 1 else None


def find_path(name: str, folder: Path) -> str:
    """A recording's path; a relative one starts at the folder from which Kaldi was run: here, or one above the directory."""
    if os.path.isabs(name):
        return name
    candidates = [Path(name), *(parent / name for parent in (folder, *folder.absolute().parents))]
    return str(next((path for path in candidates if path.is_file()), Path(name)))


@dataclass(frozen=True, slots=True)
class WrittenDirectory:
    """What a data directory holds: its utterances by their names, and how many were left out by reason."""

    utterances: dict[str, Utterance]
    left_out: dict[str, int]


def write_directory(folder: Path, utterances: Sequence[Utterance]) -> WrittenDirectory:
    """Writes a data directory that passes validate_data_dir.sh.

    Names are the manifest's "id", or else the recording's stem; where speakers' names would not sort as Kaldi wants, they are
    made to, and each is put before the names of its utterances.
    """
    left_out: Counter[str] = Counter()
    with_text = any(utterance.text.strip() for utterance in utterances)
    kept = []
    for utterance in utterances:
        words = printable_words(utterance.text)
        if "://" in utterance.audio_filepath or ".tar/" in utterance.audio_filepath:
            left_out["in a shard or at a URL"] += 1
        elif with_text and (not words or RESERVED.search(words)):
            left_out["no text, or with words that Kaldi keeps for itself"] += 1
        elif utterance.duration < SHORTEST_SEGMENT:
            left_out["shorter than two milliseconds"] += 1
        else:
            kept.append(utterance)
    if not kept:
        raise ManifestError(f"{folder}: no utterance is left to write; {dict(left_out)}")
    names, speakers = name_utterances(kept)
    uses = Counter(utterance.audio_filepath for utterance in kept)
    segmented = any(uses[each.audio_filepath] > 1 or each.offset or "channel" in each.more for each in kept)
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    of_speaker: dict[str, list[str]] = defaultdict(list)
    recordings = name_recordings(kept) if segmented else {}
    for utterance, name, speaker in sorted(zip(kept, names, speakers), key=lambda each: each[1].encode()):
        path, channel = os.path.abspath(utterance.audio_filepath), utterance.more.get("channel")
        if with_text:
            tables["text"][name] = printable_words(utterance.text)
        tables["utt2spk"][name] = speaker
        tables["utt2dur"][name] = f"{utterance.duration:.3f}"
        of_speaker[speaker].append(name)
        recording = recordings[path, channel] if segmented else name
        tables["wav.scp"][recording] = wav_line(path, channel)
        if segmented:
            end = utterance.offset + utterance.duration
            tables["segments"][name] = f"{recording} {utterance.offset:.3f} {end:.3f}"
            letter = "AB"[channel] if channel in (0, 1) else "A"
            tables["reco2file_and_channel"][recording] = f"{kaldi_name(Path(path).stem)} {letter}"
    tables["spk2utt"] = {speaker: " ".join(those) for speaker, those in of_speaker.items()}
    for table, lines in tables.items():
        write_kaldi_table(folder / table, lines)
    return WrittenDirectory(dict(zip(names, kept)), dict(left_out))


def printable_words(text: str) -> str:
    """The words of a text apart by single spaces, without characters that have no shape, which Kaldi refuses."""
    return " ".join("".join(letter for letter in text if letter.isprintable() or letter.isspace()).split())


def write_kaldi_table(path: Path, table: dict[str, str]) -> None:
    """Writes lines `KEY VALUE`, sorted as with LC_ALL=C."""
    with written(path, newline="\n") as file:
        file.writelines(f"{key} {table[key]}\n" for key in sorted(table, key=str.encode))


def name_utterances(utterances: Sequence[Utterance]) -> tuple[list[str], list[str]]:
    """A name and a speaker for each utterance, such that sorting by names and sorting by speakers agree."""
    names = [kaldi_name(str(each.more.get("id") or own_name(each))) for each in utterances]
    speakers = [kaldi_name(str(each.more.get("speaker") or name)) for each, name in zip(utterances, names)]
    pairs = sorted(zip(names, speakers), key=lambda pair: pair[0].encode())
    by_speaker = sorted(pairs, key=lambda pair: (pair[1].encode(), pair[0].encode()))
    if len(set(names)) == len(names) and pairs == by_speaker:
        return names, speakers
    speakers = [re.sub(r"[^A-Za-z0-9_.\u0080-\U0010ffff]", "_", speaker) for speaker in speakers]  # all sort after "-"
    counts: Counter[str] = Counter()
    unique = []
    for name, speaker in zip(names, speakers):
        name = name if name.startswith(f"{speaker}-") else f"{speaker}-{name}"
        counts[name] += 1
        unique.append(f"{name}.{counts[name]}" if counts[name] > 1 else name)
    return unique, speakers


def own_name(utterance: Utterance) -> str:
    """A name from the recording's, with the times of a part of it in centiseconds."""
    stem = Path(utterance.audio_filepath).stem
    if not utterance.offset:
        return stem
    end = utterance.offset + utterance.duration
    return f"{stem}_{round(100 * utterance.offset):06d}-{round(100 * end):06d}"


def kaldi_name(name: str) -> str:
    """A name without white space, characters without a shape, and what Kaldi keeps for itself."""
    return RESERVED.sub("_", re.sub(r"\s+", "_", printable_words(name))) or "unknown"


def name_recordings(utterances: Sequence[Utterance]) -> dict[tuple[str, int | None], str]:
    """A name for each channel of each file: its stem, with -A or -B, and a number where two files have one name."""
    recordings: dict[tuple[str, int | None], str] = {}
    taken: Counter[str] = Counter()
    for utterance in utterances:
        key = os.path.abspath(utterance.audio_filepath), utterance.more.get("channel")
        if key not in recordings:
            side = "" if key[1] is None else f"-{chr(ord('A') + key[1])}"
            name = kaldi_name(Path(key[0]).stem) + side
            taken[name] += 1
            recordings[key] = f"{name}.{taken[name]}" if taken[name] > 1 else name
    return recordings


def wav_line(path: str, channel: int | None) -> str:
    """What wav.scp says of a recording: its path where Kaldi reads it, or else the command that converts it."""
    quoted = shlex.quote(path)
    suffix = Path(path).suffix.lower()
    try:
        channels = audio_info(path).channels
    except AudioError:
        channels = 1
    if suffix in (".sph", ".wv1", ".wv2"):
        return f"sph2pipe -f wav -p{'' if channel is None else f' -c {channel + 1}'} {quoted} |"
    if channel is not None and channels > 1:
        return f"sox {quoted} -t wav - remix {channel + 1} |"
    if suffix == ".wav":
        return path
    return f"flac -c -d -s {quoted} |" if suffix == ".flac" else f"ffmpeg -v 8 -i {quoted} -f wav -acodec pcm_s16le - |"


def read_features(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The matrices (T, F) float32 of a feature archive with their names; `path` is a feats.scp or an .ark file."""
    kaldiio = load_kaldiio("Reading feature archives")
    try:
        pairs = kaldiio.load_scp_sequential(str(path)) if path.suffix == ".scp" else kaldiio.load_ark(str(path))
        yield from ((name, np.asarray(matrix, np.float32)) for name, matrix in pairs)
    except (OSError, ValueError, AssertionError, RuntimeError) as error:
        raise ManifestError(
            f"{path}: not a feature archive that can be read ({error}). Give a feats.scp or .ark"
        ) from None


def write_features(folder: Path, features: Iterable[tuple[str, np.ndarray]]) -> int:
    """Writes feats.ark and feats.scp with matrices (T, F), sorted by name as they come; returns how many there are."""
    kaldiio = load_kaldiio("Writing feature archives")
    ark, scp = folder.absolute() / "feats.ark", folder / "feats.scp"
    table = {}
    with written(ark, "wb") as file:
        for name, matrix in features:
            position = file.tell() + len(name.encode()) + 1  # of the matrix, after its name and a space
            kaldiio.save_ark(file, {name: np.ascontiguousarray(matrix, np.float32)})
            table[name] = f"{ark}:{position}"
    write_kaldi_table(scp, table)
    return len(table)


def load_kaldiio(purpose: str) -> Any:
    """The package kaldiio."""
    try:
        import kaldiio
    except ImportError:
        raise MissingExtraError("kaldiio", "kaldi", purpose) from None
    return kaldiio
