"""The recordings that a page plays and whose noise it measures: the worst utterances, and some at random."""

from collections.abc import Sequence

import numpy as np

from carnelian.console import track
from carnelian.data.audio import load_audio
from carnelian.data.recording import encode_audio
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError
from carnelian.parallel import in_parallel
from carnelian.scoring.report.frame import Clip, SampledAudio

CLIPS = 200  # utterances that can be played: half of them the worst, half drawn at random
CLIP_BYTES = 12_000_000  # of all of them together
MEASURED = 2000  # utterances whose signal-to-noise ratio is measured
OUTLINE = 240  # values of a waveform's outline
POWER_FRAME = 400  # samples whose power is taken together: 25 ms at 16 kHz


def sample_audio(utterances: Sequence[Utterance], order: np.ndarray, seed: int = 0) -> SampledAudio:
    """Returns the audio of some utterances; unreadable ones are left out.

    order: the indices as the page lists them: half of the clips are the first ones.
    """
    drawn = np.random.default_rng(seed).permutation(len(utterances))
    chosen = dict.fromkeys([*order[: CLIPS // 2].tolist(), *drawn[: CLIPS // 2].tolist()])
    measured = dict.fromkeys([*chosen, *drawn[:MEASURED].tolist()])

    def read(index: int) -> tuple[int, Clip | None, float] | None:
        try:
            audio = load_audio(utterances[index], 16_000)
        except AudioError:
            return None  # its error was reported when it was recognized, or `check` finds it
        clip = Clip(encode_audio(audio, 16_000, "mp3"), "audio/mpeg", outline(audio)) if index in chosen else None
        return index, clip, signal_to_noise(audio)

    sampled, room = SampledAudio(), CLIP_BYTES
    for found in track(in_parallel(read, measured), "sampling audio", len(measured)):
        if found is None:
            continue
        index, clip, sampled.ratios[index] = found
        if clip and room > len(clip.content):
            sampled.clips[index] = clip
            room -= len(clip.content)
    return sampled


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
