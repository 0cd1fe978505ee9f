"""What would break or silently hurt a training, found before it: `carnelian check MANIFEST...`."""

import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian.checkpoint import load_model
from carnelian.console import duration_text, note, table, track
from carnelian.data.alphabet import Alphabet, make_alphabet
from carnelian.data.audio import audio_info, load_audio
from carnelian.data.sources import distinct_stems
from carnelian.data.text.names import NORMALIZE_HELP, likely_normalizations, make_normalizer
from carnelian.data.text.report import NormalizationReport, Normalizer
from carnelian.data.utterance import BOM, Utterance, manifest_line, open_manifest, parse_line, write_manifest
from carnelian.errors import CarnelianError, ManifestError, MissingExtraError
from carnelian.file_kinds import misplaced
from carnelian.files import check_outputs, one_line, written
from carnelian.formats.catalog import find_checkpoint
from carnelian.models.losses.ctc import steps_needed
from carnelian.parallel import in_parallel

ACTIONS = {
    "not an utterance": "rejected",
    "audio missing": "rejected",
    "audio empty": "rejected",
    "audio unreadable": "rejected",
    "audio cut off": "rejected",
    "wrong duration": "corrected",
    "silence": "rejected",
    "clipping": "kept",
    "text empty": "rejected",
    "characters unknown": "rejected",
    "text too long": "rejected",
    "duplicate": "rejected",
}
"""What is looked for, and what becomes of an utterance that has it."""
FINDINGS_OF_ERRORS = {
    "NaN or infinite": "audio unreadable",
    "no such file": "audio missing",
    "an empty file": "audio empty",
    "has 0.00 s": "audio empty",
    "cut off": "audio cut off",
    "NaN": "audio unreadable",
}
"""Words of an AudioError, and the finding that it is."""
DURATION_TOLERANCE = 0.1  # seconds by which a stated duration may be off
FAR = 0.1  # share (and seconds) by which it is off so far that it is of another recording
SILENT = 10 ** (-60 / 20)  # peak, relative to full scale: -60 dB
CLIPPED = 0.001  # share of samples at full scale


@dataclass(slots=True)
class Checked:
    """A manifest's line, its utterance (None where it is none) and what was found: (kind, reason), in order."""

    place: str
    utterance: Utterance | None
    findings: list[tuple[str, str]] = field(default_factory=list)
    digest: bytes = b""

    @property
    def clean(self) -> bool:
        """Whether the utterance may stay."""
        return all(ACTIONS[kind] != "rejected" for kind, _ in self.findings)

    @property
    def duration(self) -> float:
        """Its seconds; 0 where it is no utterance."""
        return self.utterance.duration if self.utterance else 0.0


def check(
    manifests: Annotated[list[Path], "the manifests; what is in two of them is a duplicate in the later one"],
    *,
    alphabet: Annotated[str, "the characters that a model can write, or a SentencePiece .model; by default any"] = "",
    model: Annotated[Path | None, "a checkpoint, whose alphabet and step are taken"] = None,
    step_seconds: Annotated[float, "seconds that one output step of the model covers"] = 0.02,
    normalize: Annotated[str, NORMALIZE_HELP] = "",
    out: Annotated[
        Path | None, "the folder for NAME.clean.jsonl and NAME.rejects.jsonl; by default the manifest's"
    ] = None,
    workers: Annotated[int, "recordings decoded at once; 0 is one per processor"] = 0,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Find what would break or hurt a training; write the clean manifest, and the rejects with reasons, beside each.

    Where texts cannot be spelled, it says which --normalize would help, and with it writes them so.

    Example: carnelian check data/an4/train.jsonl --out data/an4
    """
    if step_seconds <= 0 or workers < 0:
        raise CarnelianError("--step-seconds must be above 0, and --workers 0 or more")
    symbols = make_alphabet(alphabet) if alphabet else None
    if model:
        acoustic, checkpoint = load_model(find_checkpoint(model))
        symbols, step_seconds = checkpoint.alphabet, acoustic.seconds_per_step
    normalizer, report = make_normalizer(normalize, symbols) if normalize else None, NormalizationReport()
    seen: dict[bytes, str] = {}
    stems = distinct_stems([str(manifest) for manifest in manifests]) if out else [each.stem for each in manifests]
    outputs = [
        [(out or manifest.parent) / f"{stem}.{kind}.jsonl" for kind in ("clean", "rejects")]
        for manifest, stem in zip(manifests, stems)
    ]
    check_outputs(*chain.from_iterable(outputs), overwrite=overwrite)
    for manifest, files in zip(manifests, outputs):
        lines = list(read_manifest_lines(manifest))
        if not lines:
            raise ManifestError(f"{manifest}: it is empty. Give a manifest with utterances")
        uses = Counter(line.utterance.audio_filepath for line in lines if line.utterance)
        alone = [line.utterance is not None and uses[line.utterance.audio_filepath] == 1 for line in lines]
        decoded = in_parallel(lambda given: check_audio(*given), zip(lines, alone), workers or None)
        checked = list(track(decoded, f"Checking {manifest.name}", len(lines)))
        for each in checked:
            if normalizer:
                normalize_line(each, normalizer, report)
            check_text(each, symbols, step_seconds)
            check_duplicate(each, seen)
        write_results(checked, *files)
        print_findings(manifest, checked)
        if normalizer:
            table(f"normalised as {normalizer.label}", ("", "count"), report.rows())
        elif symbols:
            note_normalization(checked, symbols, step_seconds)
        note("wrote " + ", ".join(str(path) for path in files))


def read_manifest_lines(manifest: Path) -> Iterator[Checked]:
    """Each line of a manifest; a bad one is a finding, not an error. ManifestError for a file of another kind."""
    if other := misplaced(manifest, "a manifest"):
        raise ManifestError(one_line(other))
    with open_manifest(manifest) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"{manifest}:{number}"
                try:
                    yield Checked(place, parse_line(line.removeprefix(BOM), os.path.dirname(manifest)))
                except ValueError as error:
                    yield Checked(place, None, [("not an utterance", str(error))])


def check_audio(line: Checked, alone: bool = True) -> Checked:
    """The line with what is wrong with its recording, which is read and decoded; a wrong duration is corrected.

    `alone` says that no other line of the manifest is of the same recording.
    """
    if line.utterance is None:
        return line
    stage = "audio unreadable"
    try:
        info = audio_info(line.utterance)
        line.utterance = correct_duration(line, line.utterance, info.duration, alone)
        stage = "audio cut off"
        check_samples(line, load_audio(line.utterance, info.sample_rate))
    except CarnelianError as error:
        kind = next((kind for words, kind in FINDINGS_OF_ERRORS.items() if words in str(error)), stage)
        line.findings.append((kind, str(error)))
    return line


def correct_duration(line: Checked, utterance: Utterance, recorded: float, alone: bool) -> Utterance:
    """The utterance with the duration that its recording has, where the stated one is none, a little long, or short.

    A stretch of a recording that has several (not `alone`) may end early. One that ends far too late is left as it
    is: its words are hardly those of the recording.
    """
    stated, left = utterance.duration, recorded - utterance.offset
    short = alone and not utterance.offset and stated < left - DURATION_TOLERANCE
    long = left + DURATION_TOLERANCE < stated <= left + FAR * (1 + stated)
    if left <= 0 or (stated > 0 and not short and not long):
        return utterance
    line.findings.append(("wrong duration", f"{stated:.2f} s stated, the recording has {left:.2f} s"))
    return replace(utterance, duration=left)


def check_samples(line: Checked, audio: np.ndarray) -> None:
    """Finds silence, clipping and what is no number in a waveform, and takes its fingerprint."""
    loudness = np.abs(audio)
    if not np.isfinite(peak := float(loudness.max(initial=0))):
        line.findings.append(("audio unreadable", "some of its samples are no numbers"))
    elif peak < SILENT:
        line.findings.append(("silence", f"its loudest sample is {peak:.6f} of full scale"))
    elif (clipped := float(np.mean(loudness >= 0.999))) > CLIPPED:
        line.findings.append(("clipping", f"{100 * clipped:.1f} % of its samples are at full scale"))
    line.digest = hashlib.blake2b(audio.tobytes(), digest_size=16).digest()


def normalize_line(line: Checked, normalizer: Normalizer, report: NormalizationReport) -> None:
    """Puts the normalised text in the place of an utterance's; the manifest keeps the name, and the text as it was."""
    if line.utterance is None:
        return
    text = normalizer(line.utterance.text, report)
    if text is None:
        return  # nothing of it can be spelled: what is wrong is found in the text as it stands
    more = line.utterance.more | {"normalization": normalizer.label}
    if text != line.utterance.text:
        more.setdefault("original_text", line.utterance.text)
    line.utterance = replace(line.utterance, text=text, more=more)


def note_normalization(checked: list[Checked], alphabet: Alphabet, step_seconds: float) -> None:
    """Says how many of the lines rejected for their characters would be clean with a normalisation, and with which."""
    rejected = [each for each in checked if each.utterance and "characters unknown" in dict(each.findings)]
    texts = [each.utterance.text for each in rejected if each.utterance]
    saved: dict[str, int] = {}
    for name in likely_normalizations(texts) if texts else ():
        try:
            normalizer = make_normalizer(name, alphabet)
        except MissingExtraError:
            continue
        lines = [Checked(each.place, each.utterance, spoken_findings(each)) for each in rejected]
        for line in lines:
            normalize_line(line, normalizer, NormalizationReport())
            check_text(line, alphabet, step_seconds)
        saved[name] = sum(line.clean for line in lines)
    if any(saved.values()):
        best = max(saved, key=lambda name: saved[name])  # the first, so the likeliest, of equals
        note(f"{saved[best]} of {len(checked)} would be clean with --normalize {best}")


def spoken_findings(line: Checked) -> list[tuple[str, str]]:
    """What was found in a line but for its text."""
    return [
        finding for finding in line.findings if finding[0] not in ("characters unknown", "text too long", "text empty")
    ]


def check_text(line: Checked, alphabet: Alphabet | None, step_seconds: float) -> None:
    """Finds text that is empty, that the alphabet cannot spell, or too long for CTC at the model's step."""
    if line.utterance is None:
        return
    text = line.utterance.text
    if not text.strip():
        line.findings.append(("text empty", "nothing to learn from"))
    elif alphabet and (unknown := alphabet.unknown(text)):
        line.findings.append(("characters unknown", "".join(sorted(unknown))))
    symbols = alphabet.encode(text) if alphabet else [ord(character) for character in text]
    needed, steps = steps_needed(symbols), math.floor(line.utterance.duration / step_seconds + 1e-6)
    if needed > steps and not any(kind.startswith("audio") for kind, _ in line.findings):
        line.findings.append(
            ("text too long", f"needs {needed} output steps, {line.utterance.duration:.2f} s give {steps}")
        )


def check_duplicate(line: Checked, seen: dict[bytes, str]) -> None:
    """Finds a recording whose samples were seen before; `seen` holds the place of each first one."""
    if line.digest and line.clean and (first := seen.setdefault(line.digest, line.place)) != line.place:
        line.findings.append(("duplicate", f"the same samples as {first}"))


def write_results(checked: list[Checked], clean: Path, rejects: Path) -> None:
    """Writes the clean manifest, and the rejects with their places and reasons."""
    write_manifest(clean, (each.utterance for each in checked if each.utterance and each.clean))
    with written(rejects, errors="backslashreplace") as file:
        for each in (each for each in checked if not each.clean):
            keys = json.loads(manifest_line(each.utterance, os.path.abspath(rejects.parent))) if each.utterance else {}
            reasons = [f"{kind}: {reason}" for kind, reason in each.findings]
            file.write(json.dumps(keys | {"line": each.place, "reasons": reasons}, ensure_ascii=False) + "\n")


def print_findings(manifest: Path, checked: list[Checked]) -> None:
    """A table of what was found, how often and in how much speech, and the first of each kind."""
    found: dict[str, list[tuple[Checked, str]]] = defaultdict(list)
    for each in checked:
        for kind, reason in each.findings:
            found[kind].append((each, reason))
    rows = [
        (kind, action, len(found[kind]), duration_text(sum(each.duration for each, _ in found[kind])))
        for kind, action in ACTIONS.items()
        if kind in found
    ]
    clean = [each for each in checked if each.clean]
    rows.append(("clean", "", len(clean), duration_text(sum(each.duration for each in clean))))
    rows.append(("all", "", len(checked), duration_text(sum(each.duration for each in checked))))
    table(str(manifest), ("finding", "action", "utterances", "duration"), rows)
    for kind in ACTIONS:
        for each, reason in found.get(kind, [])[:1]:
            print(f"{each.place}: {kind}: {reason}")
    if utterances := [each.utterance for each in clean if each.utterance]:
        seconds = [utterance.duration for utterance in utterances]
        characters = "".join(sorted(set().union(*(utterance.text for utterance in utterances))))
        print(f'clean: {min(seconds):.2f} to {max(seconds):.2f} s long, {len(characters)} characters: "{characters}"')
