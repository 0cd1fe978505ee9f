"""Synthetic speech: a small corpus from nothing, or any text spoken: `carnelian synthesize FOLDER [--text FILE]`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from carnelian.corpora import synthetic
from carnelian.corpora.speech.spoken_text import SIMULATED, SpeechStyle, speak_texts
from carnelian.corpora.speech.voices import SPEECH_ENGINES
from carnelian.data.text.names import NORMALIZE_HELP, make_normalizer
from carnelian.data.text.text_files import read_lines
from carnelian.errors import CarnelianError, ManifestError


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """How a text is spoken; the command line makes one option of each field."""

    engine: Annotated[str, f"with --text: one of {', '.join(SPEECH_ENGINES)}"] = "espeak-ng"
    voice: Annotated[
        list[str], "with --text: a voice of the engine, or a language of espeak-ng; may be given again"
    ] = field(default_factory=list)
    speed: Annotated[str, "with --text: slowest and fastest, as factors"] = "0.8,1.2"
    pitch: Annotated[str, "with --text: lowest and highest, as factors"] = "0.9,1.1"
    noise: Annotated[str, "with --text: a manifest of noises, added to half of the recordings"] = ""
    signal_to_noise: Annotated[str, "with --noise: least and most, in decibels"] = "5,25"
    room: Annotated[
        str, f'with --text: "{SIMULATED}", or a manifest of impulse responses, for half of the recordings'
    ] = ""
    telephone: Annotated[float, "with --text: share of the recordings that go through a telephone line"] = 0.0
    per_text: Annotated[int, "with --text: recordings of each line, each in another voice"] = 1
    normalize: Annotated[str, NORMALIZE_HELP] = ""

    def style(self, sample_rate: int) -> SpeechStyle:
        """The options as what they ask for; CarnelianError for one that makes no sense."""
        if not 0 <= self.telephone <= 1 or self.per_text < 1:
            raise CarnelianError(
                f"--telephone {self.telephone}, --per-text {self.per_text}: expected a share from 0 to 1, and 1 or more"
            )
        return SpeechStyle(
            self.engine,
            tuple(self.voice),
            number_pair("speed", self.speed, 0.3, 3),
            number_pair("pitch", self.pitch, 0.5, 2),
            self.noise,
            number_pair("signal-to-noise", self.signal_to_noise, -30, 100),
            self.room,
            self.telephone,
            sample_rate,
        )


def synthesize(
    folder: Annotated[Path, "the folder to make: audio/, and train.jsonl and test.jsonl, or TEXT.jsonl"],
    *,
    text: Annotated[
        Path | None, "speak the lines of this file (plain, gzip or a manifest) instead of the small corpus"
    ] = None,
    options: SpeechOptions = SpeechOptions(),
    train: Annotated[int, "training utterances of the small corpus"] = 1500,
    test: Annotated[int, "its test utterances, of other sentences and other speakers"] = 150,
    seed: Annotated[int, "the same seed gives the same recordings"] = 0,
    sample_rate: Annotated[int, "samples per second"] = 16000,
    overwrite: Annotated[bool, "with --text: replace the manifest and recordings if they exist"] = False,
) -> None:
    """Make synthetic speech: a small corpus of commands to a house, or with --text any text, in many voices.

    Example: carnelian synthesize spoken --text sentences.txt --normalize en --per-text 2 --room simulated
    """
    if sample_rate < 4000:
        raise CarnelianError(f"--sample-rate {sample_rate}: too low for speech. Give 8000, 16000 or more")
    if text is None:
        manifests = synthetic.synthesize_corpus(folder, train=train, test=test, seed=seed, sample_rate=sample_rate)
        for manifest in manifests.values():
            print(manifest)
        return
    style = options.style(sample_rate)
    name = text.name.split(".")[0]
    if (folder / f"{name}.jsonl").exists() and not overwrite:
        raise ManifestError(f"{folder / name}.jsonl: exists. Give another folder, or --overwrite")
    print(speak_texts(folder, name, read_texts(text, options.normalize), style, seed=seed, per_text=options.per_text))


def read_texts(path: Path, normalize: str) -> list[str]:
    """The lines of a text file that are to be spoken."""
    lines = [" ".join(line.split()) for line in read_lines(path)]
    if normalize:
        normalizer = make_normalizer(normalize)
        lines = [normalizer(line) or "" for line in lines]
    lines = [line for line in lines if line]
    if not lines:
        raise CarnelianError(f"{path}: no text in it. Give one sentence a line")
    return lines


def number_pair(option: str, given: str, least: float, most: float) -> tuple[float, float]:
    """Two numbers, the lower first, from an option such as "0.8,1.2"; one number stands for both."""
    try:
        numbers = [float(part) for part in given.replace(",", " ").split()]
        low, high = numbers * 2 if len(numbers) == 1 else numbers
    except ValueError:
        raise CarnelianError(f'--{option} "{given}": expected two numbers, such as 0.8,1.2') from None
    if not least <= low <= high <= most:
        raise CarnelianError(f'--{option} "{given}": expected two numbers from {least:g} to {most:g}, the lower first')
    return low, high
