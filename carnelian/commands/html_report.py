"""The HTML report of `carnelian evaluate --report`: what it needs beside the hypotheses, gathered from recordings and
other results."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from carnelian.commands.compare import read_results
from carnelian.console import bar, note
from carnelian.data.audio import load_audio
from carnelian.data.recording import encode_mp3
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError, ManifestError
from carnelian.scoring.report.html import Clip, ReportUtterance, SystemResult, write_html_report

CLIPS = 200  # utterances that can be played: half of them the worst, half drawn at random
CLIP_BYTES = 24_000_000  # of all of them together
MEASURED = 2000  # utterances whose signal-to-noise ratio is measured
OUTLINE = 240  # values of a waveform's outline
POWER_FRAME = 400  # samples whose power is taken together: 25 ms at 16 kHz


def html_report(
    path: Path,
    name: str,
    utterances: Sequence[Utterance],
    subsets: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    confidences: Sequence[Sequence[float]],
    *,
    normalize: Callable[[Sequence[str]], list[str]],
    normalization: str,
    beside: Sequence[Path] = (),
    vocabulary: set[str] | None = None,
    seed: int = 0,
) -> None:
    """Writes the report of one system, and of others beside it whose results `carnelian evaluate --out` wrote.

    references, hypotheses: as they were compared, after normalisation by `normalize`. confidences: of the words of each
    hypothesis; they are left out where normalisation changed the number of words.
    """
    counts = [len(text.split()) for text in hypotheses]
    systems = [SystemResult(name, hypotheses, confidences if counts == list(map(len, confidences)) else [])]
    systems += [SystemResult(other.stem, normalize(hypotheses_beside(other, utterances))) for other in beside]
    errors = np.array([one.split() != other.split() for one, other in zip(references, hypotheses)])
    order = np.random.default_rng(seed).permutation(len(utterances))
    worst = [index for index in order if errors[index]][: CLIPS // 2]
    chosen = dict.fromkeys([*worst, *order[: CLIPS - len(worst)]])
    measured = dict.fromkeys([*chosen, *order[:MEASURED]])
    clips, ratios, room = {}, {}, CLIP_BYTES
    with bar("report", len(measured)) as advance:
        for index in measured:
            advance()
            try:
                audio = load_audio(utterances[index], 16_000)
            except AudioError:
                continue  # its error was reported when it was recognized
            ratios[index] = signal_to_noise(audio)
            if index in chosen and room > 0:
                clips[index] = Clip(encode_mp3(audio, 16_000), "audio/mpeg", outline(audio))
                room -= len(clips[index].content)
    rows = [
        ReportUtterance(
            utterance.audio_filepath,
            reference,
            utterance.duration,
            subset,
            str(utterance.more.get("speaker", "")),
            ratios.get(index),
            clips.get(index),
        )
        for index, (utterance, subset, reference) in enumerate(zip(utterances, subsets, references))
    ]
    write_html_report(path, f"Evaluation of {name}", rows, systems, normalization=normalization, vocabulary=vocabulary)
    note(f"wrote {path}; open it in a browser")


def hypotheses_beside(path: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Returns another system's hypotheses for the same utterances, from the lines of `carnelian evaluate --out`.

    Raises ManifestError.
    """
    lines = read_results(path)
    names = [str(line.get("audio_filepath")) for line in lines]
    found = dict(zip(names, (line["hypothesis"] for line in lines)))
    if sorted(names) != sorted(each.audio_filepath for each in utterances):
        raise ManifestError(
            f"{path}: not the results of these {len(utterances)} utterances. Evaluate both on the same manifests"
        )
    if len(found) < len(lines):  # several segments of a recording are told apart by their order only
        return [line["hypothesis"] for line in lines]
    return [found[each.audio_filepath] for each in utterances]


def signal_to_noise(audio: np.ndarray) -> float:
    """Returns an estimate of the signal-to-noise ratio in decibels: the power of the loudest frames over that of the quietest."""
    frames = audio[: len(audio) // POWER_FRAME * POWER_FRAME].reshape(-1, POWER_FRAME)
    if len(frames) < 4:
        return 0.0
    power = np.sort(np.square(frames, dtype=np.float64).mean(1)) + 1e-12
    tenth = max(1, len(power) // 10)
    return float(10 * np.log10(power[-tenth:].mean() / power[:tenth].mean()))


def outline(audio: np.ndarray) -> tuple[float, ...]:
    """Returns the waveform's outline: the largest level in each of equal parts, 1 the largest of all."""
    if not len(audio):
        return ()
    parts = np.array_split(np.abs(audio), min(OUTLINE, len(audio)))
    levels = np.array([part.max() for part in parts])
    return tuple(float(level) for level in levels / max(levels.max(), 1e-6))
