"""Synthetic speech: a small corpus from nothing, or any text spoken: `carnelian synthesize FOLDER [--text FILE]`."""

from pathlib import Path
from typing import Annotated

from carnelian.corpora import synthetic
from carnelian.corpora.spoken_text import SIMULATED, SpeechStyle, speak_texts
from carnelian.corpora.voices import SPEECH_ENGINES
from carnelian.data.text.names import NORMALIZE_HELP, make_normalizer
from carnelian.data.text.text_files import read_lines
from carnelian.errors import CarnelianError, ManifestError


def synthesize(
    folder: Annotated[Path, "the folder to make: audio/, and train.jsonl and test.jsonl, or TEXT.jsonl"],
    *,
    text: Annotated[
        Path | None, "speak the lines of this file (plain, gzip or a manifest) instead of the small corpus"
    ] = None,
    engine: Annotated[str, f"with --text: one of {', '.join(SPEECH_ENGINES)}"] = "espeak-ng",
    voice: Annotated[
        list[str], "with --text: a voice of the engine, or a language of espeak-ng; may be given again"
    ] = [],  # noqa: B006
    speed: Annotated[str, "with --text: slowest and fastest, as factors"] = "0.8,1.2",
    pitch: Annotated[str, "with --text: lowest and highest, as factors"] = "0.9,1.1",
    noise: Annotated[str, "with --text: a manifest of noises, added to half of the recordings"] = "",
    signal_to_noise: Annotated[str, "with --noise: least and most, in decibels"] = "5,25",
    room: Annotated[
        str, f'with --text: "{SIMULATED}", or a manifest of impulse responses, for half of the recordings'
    ] = "",
    telephone: Annotated[float, "with --text: share of the recordings that go through a telephone line"] = 0.0,
    per_text: Annotated[int, "with --text: recordings of each line, each in another voice"] = 1,
    normalize: Annotated[str, NORMALIZE_HELP] = "",
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
    if not 0 <= telephone <= 1 or per_text < 1:
        raise CarnelianError(
            f"--telephone {telephone}, --per-text {per_text}: expected a share from 0 to 1, and 1 or more"
        )
    style = SpeechStyle(
        engine,
        tuple(voice),
        number_pair("speed", speed, 0.3, 3),
        number_pair("pitch", pitch, 0.5, 2),
        noise,
        number_pair("signal-to-noise", signal_to_noise, -30, 100),
        room,
        telephone,
        sample_rate,
    )
    name = text.name.split(".")[0]
    if (folder / f"{name}.jsonl").exists() and not overwrite:
        raise ManifestError(f"{folder / name}.jsonl: exists. Give another folder, or --overwrite")
    lines = [" ".join(line.split()) for line in read_lines(text)]
    if normalize:
        normalizer = make_normalizer(normalize)
        lines = [normalizer(line) or "" for line in lines]
    lines = [line for line in lines if line]
    if not lines:
        raise CarnelianError(f"{text}: no text in it. Give one sentence a line")
    print(speak_texts(folder, name, lines, style, seed=seed, per_text=per_text))


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
