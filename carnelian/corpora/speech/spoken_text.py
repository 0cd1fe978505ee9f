"""Speech for any text: spoken by synthetic voices, at several rates and pitches, with noises, rooms and telephone lines."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from carnelian.console import bar, note
from carnelian.corpora.speech.voices import SPEECH_ENGINES
from carnelian.corpora.synthetic import PART, TRAIN_SPEAKERS, write_wave
from carnelian.data.audio import resample
from carnelian.data.augment import Augmentation, at_speed, impulse, noise, reverberate, sometimes, telephone
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import CarnelianError, ManifestError
from carnelian.parallel import in_parallel

SILENCE_SECONDS = (0.05, 0.3)  # before and after the words
LOUDNESS = (0.3, 0.9)  # of the loudest sample
HISS_DECIBELS = (-80.0, -50.0)  # white noise under every recording, below full scale
LEAST_SOUND = 0.01  # of full scale: the loudest sample of a text that an engine has no sound for; the pauses of recorded voices hiss
SHARE = 0.5  # of the recordings with a noise, and in a room, where these are asked for
SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class SpeechStyle:
    """How texts are spoken; pairs are the least and the most of what is drawn anew for each recording.

    speed, pitch: factors of the voice's own. Another pitch is another length of the vocal tract too: another speaker.
    noise, room: manifests of noises and impulse responses, or "simulated" rooms; signal_to_noise in decibels.
    telephone: share of the recordings that go through a telephone line (8 kHz, mu-law).
    """

    engine: str = "espeak-ng"
    voices: tuple[str, ...] = ()
    speed: tuple[float, float] = (0.8, 1.2)
    pitch: tuple[float, float] = (0.9, 1.1)
    noise: str = ""
    signal_to_noise: tuple[float, float] = (5.0, 25.0)
    room: str = ""
    telephone: float = 0.0
    sample_rate: int = 16000


def speak_texts(
    folder: Path, name: str, texts: Sequence[str], style: SpeechStyle, *, seed: int = 0, per_text: int = 1
) -> Path:
    """Writes a recording of each text (`per_text` of them) to FOLDER/audio, and the manifest FOLDER/NAME.jsonl; returns its path.

    The same arguments give the same bytes, for any number of processors. If it fails, the recordings are removed again.
    """
    manifest = folder / f"{name}.jsonl"
    voices = expand_voices(style)
    effects = make_effects(style)
    spoken = [text for text in texts for _ in range(per_text)]
    parts = [range(first, min(first + PART, len(spoken))) for first in range(0, len(spoken), PART)]
    SPEECH_ENGINES[style.engine].start()  # says at once if it is not installed
    written: list[Path] = []
    with bar("Speaking", len(spoken)) as advance:

        def speak_part(part: range) -> list[Utterance]:
            say = SPEECH_ENGINES[style.engine].start()
            utterances = []
            for number in part:
                rng = np.random.default_rng([seed, number])
                voice = voices[rng.integers(len(voices))]
                speed, pitch = rng.uniform(*style.speed), rng.uniform(*style.pitch)
                audio, rate = say(spoken[number], voice, speed / pitch)  # played faster by `pitch` afterwards
                advance()
                if np.abs(audio).max(initial=0) < LEAST_SOUND:
                    continue
                audio = at_speed(resample(audio, rate, style.sample_rate), pitch)
                path = folder / "audio" / f"{name}-{number:06d}.wav"
                written.append(path)
                write_wave(path, place_in_recording(audio, effects, style.sample_rate, rng), style.sample_rate)
                more = {"speaker": f"{Path(voice).stem}*{pitch:.1f}", "engine": style.engine, "synthetic": True}
                utterances.append(Utterance(str(path), 0.0, spoken[number], more=more))
            return utterances

        try:
            (folder / "audio").mkdir(parents=True, exist_ok=True)
            utterances = list(chain.from_iterable(in_parallel(speak_part, parts)))
            if not utterances:
                raise CarnelianError(
                    f"{style.engine}: none of {len(texts)} texts has any sound. Give text of the voice's language"
                )
            if len(utterances) < len(spoken):
                note(f"{len(spoken) - len(utterances)} texts have no sound and are left out")
            write_manifest(manifest, with_durations(utterances, style.sample_rate))
        except BaseException as error:
            for path in written:
                path.unlink(missing_ok=True)
            for empty in (folder / "audio", folder):
                with suppress(OSError):  # it holds something else
                    empty.rmdir()
            if isinstance(error, OSError):
                raise ManifestError(f"{folder}: cannot be written ({error.strerror}). Give another folder") from None
            raise
    return manifest


def with_durations(utterances: Iterable[Utterance], sample_rate: int) -> Iterable[Utterance]:
    """The utterances with the seconds of their recordings, which are WAV files of 16 bits."""
    for each in utterances:
        samples = (Path(each.audio_filepath).stat().st_size - 44) // 2
        yield Utterance(each.audio_filepath, samples / sample_rate, each.text, 0.0, each.more)


def expand_voices(style: SpeechStyle) -> list[str]:
    """The voices to draw from; a language of espeak-ng ("es") stands for all its speakers ("es+f1", ...)."""
    if style.engine not in SPEECH_ENGINES:
        raise CarnelianError(f'--engine "{style.engine}": not known. Known: {", ".join(SPEECH_ENGINES)}')
    engine = SPEECH_ENGINES[style.engine]
    voices = style.voices or engine.voices
    if not voices:
        raise CarnelianError(f"--engine {style.engine}: it needs a --voice. Give {engine.needs}")
    if style.engine != "espeak-ng":
        return list(voices)
    return [
        each for voice in voices for each in ([voice] if "+" in voice else [f"{voice}+{s}" for s in TRAIN_SPEAKERS])
    ]


def make_effects(style: SpeechStyle) -> list[Augmentation]:
    """What is done to the speech, in the order in which it happens: a room, a noise in it, a telephone line."""
    effects = []
    if style.room == SIMULATED:
        effects.append(sometimes(SHARE, lambda audio, rng: reverberate(audio, simulated_room(style.sample_rate, rng))))
    elif style.room:
        effects.append(impulse(style.room, SHARE, style.sample_rate))
    if style.noise:
        effects.append(noise(style.noise, *style.signal_to_noise, SHARE, style.sample_rate))
    if style.telephone:
        effects.append(telephone(style.telephone, style.sample_rate))
    return effects


def place_in_recording(
    audio: np.ndarray, effects: Sequence[Augmentation], sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """The words (S,) with silence around them, at some loudness, after the effects, over a faint hiss."""
    before, after = (int(seconds * sample_rate) for seconds in rng.uniform(*SILENCE_SECONDS, 2))
    audio = np.pad(
        audio * np.float32(rng.uniform(*LOUDNESS) / max(1e-4, np.abs(audio).max(initial=0))), (before, after)
    )
    for effect in effects:
        audio = effect(audio, rng)
    hiss = np.float32(10 ** (rng.uniform(*HISS_DECIBELS) / 20))
    return audio + hiss * rng.standard_normal(len(audio), dtype=np.float32)


def simulated_room(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A room's response (S,): the direct sound, then noise that decays by 60 dB in 0.15 to 0.7 s (Polack's model)."""
    seconds = rng.uniform(0.15, 0.7)
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    response = tail * 10 ** (-rng.uniform(0, 12) / 20) / np.sqrt(np.sum(tail**2))
    response[0] = 1.0
    return response.astype(np.float32)
