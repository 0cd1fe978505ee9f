"""A small spoken corpus made by espeak-ng: commands to a house, in many voices. The only importer of espeakng-loader."""

import ctypes
import os
import re
import shutil
import wave
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from carnelian.console import bar
from carnelian.data.audio import resample
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import ManifestError, MissingExtraError
from carnelian.parallel import in_parallel

TEMPLATES = (
    "turn {switch} the {room} {device}",
    "set the {room} {level} to {tens} {unit}",
    "open the {room} {opening} at {hour} {minute}",
    "close the {room} {opening} {time}",
    "play {music} in the {room} {time}",
    "wake me at {hour} {minute} {day}",
    "call {name} and {name} {time}",
    "tell {name} that dinner is at {hour}",
    "what is the weather in {city} {day}",
    "add {number} {item} and {number} {item}",
)
#: patterns that no training sentence has, of the same words: what a person's own command may look like
OTHER_TEMPLATES = (
    "{name} turn {switch} the {device} in the {room}",
    "what is in the {room} {time}",
    "open the {opening} and close the {opening} in the {room}",
    "set the radio in the {room} to {music}",
    "tell {name} to call {name} {day}",
    "wake {name} and {name} {day} at {hour}",
    "turn the {room} {device} {switch} at {hour} {minute}",
    "dinner is at {hour} {minute} {day}",
    "call me in {tens} {unit}",
    "is the {opening} in the {room} {switch}",
    "add {number} {item} to dinner {day}",
    "the weather in {city} is {number} {unit}",
)
WORDS = {
    "switch": "on off",
    "room": "kitchen bedroom garden office bathroom",
    "device": "light heater radio lamp fan",
    "level": "heater lamp fan",
    "unit": "degrees percent",
    "tens": "ten twenty thirty forty fifty sixty seventy eighty",
    "opening": "window door curtains",
    "music": "music jazz piano",
    "hour": "one two three four five six seven eight nine ten eleven twelve",
    "minute": "fifteen thirty",
    "day": "today tomorrow monday tuesday wednesday thursday friday saturday sunday",
    "time": "now later tonight",
    "name": "anna peter maria john susan",
    "city": "london paris berlin madrid",
    "number": "two three four five six seven eight nine",
    "item": "apples lemons eggs onions",
}
ACCENTS = ("en-us", "en", "en-gb-x-rp")
TRAIN_SPEAKERS = (
    *("m1", "m2", "m3", "m4", "m7", "f1", "f2", "f3", "klatt", "klatt2", "klatt4"),
    *("Alex", "Andrea", "Annie", "Lee", "Mario", "Michael", "linda", "paul", "steph"),
)
TEST_SPEAKERS = ("m5", "m6", "f4", "f5", "klatt3", "belinda", "Gene", "adam")
SPEED, PITCH = (140, 200), (30, 70)  # words a minute, and espeak's scale of 0 to 100
SYNCHRONOUS, UTF8, RATE, HEIGHT = 2, 1, 1, 3  # constants of espeak-ng's speak_lib.h
BUFFER = 1000  # milliseconds of speech that espeak-ng hands over at once
MOST_TEST = 1000  # different test sentences, about half of those that the grammar has
FREE_ORDER = (
    0.5  # share of the training sentences that are words in random order, so that not only the patterns are learnt
)
PART = 75  # utterances by one Speaker: what is said depends a little on what it said before


class Speaker:
    """espeak-ng, which speaks a text in a voice.

    The library holds its state in global variables, which each utterance leaves a little changed; every Speaker loads
    a copy of its own, so that speakers do not disturb each other and a new one says the same each time.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise MissingExtraError("espeakng-loader", "quickstart", "Synthetic speech") from None
        self.folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self.espeak = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), self.folder.name))
        home = Path(espeakng_loader.get_data_path())
        if len(str(home)) > 120:  # the library cuts paths off after 160 characters
            home = Path(self.folder.name, home.name)
            home.symlink_to(espeakng_loader.get_data_path())
        self.sample_rate = self.espeak.espeak_Initialize(SYNCHRONOUS, BUFFER, os.fsencode(home.parent), 0)
        self.pieces: list[np.ndarray] = []
        signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = signature(self._hear)  # held, or it would be collected while the library calls it
        self.espeak.espeak_SetSynthCallback(self.callback)

    def _hear(self, samples, count: int, events) -> int:
        if count > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str = "en-us", *, speed: int = 175, pitch: int = 50, seed: int = 0) -> np.ndarray:
        """The spoken text, float32 (S,) at `sample_rate`; `voice` is an accent, or accent+speaker ("en-us+f2")."""
        if self.espeak.espeak_SetVoiceByName(voice.encode()):
            raise ManifestError(f'voice "{voice}": espeak-ng has none of this name. Try "en-us" or "en-us+f2"')
        self.espeak.espeak_SetParameter(RATE, speed, 0)
        self.espeak.espeak_SetParameter(HEIGHT, pitch, 0)
        self.espeak.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self.pieces = []
        spoken = text.encode()
        self.espeak.espeak_Synth(spoken, ctypes.c_size_t(len(spoken) + 1), 0, 0, 0, UTF8, None, None)
        pieces = self.pieces or [np.zeros(0, dtype=np.int16)]
        return np.concatenate(pieces).astype(np.float32) / 32768


def synthesize_corpus(
    folder: str | Path, *, train: int = 1500, test: int = 150, seed: int = 0, sample_rate: int = 16000
) -> dict[str, Path]:
    """Makes a spoken corpus in a folder and returns its manifests, "train", "test" and "other".

    "test" has other sentences of the training's patterns, "other" has other patterns of the same words. No test sentence is a training
    sentence, and no test speaker a training speaker; the accents are the same. The same arguments give the same bytes.
    """
    folder = Path(folder)
    manifests = {name: folder / f"{name}.jsonl" for name in ("train", "test", "other")}
    if all(manifest.exists() for manifest in manifests.values()):
        raise ManifestError(f"{folder}: it holds a corpus already. Give another folder, or remove this one")
    known, unknown = partition_sentences(train, test, seed)
    patterns = sentences(np.random.default_rng([seed, 1]), OTHER_TEMPLATES)
    other = list(islice(dict.fromkeys(islice(patterns, 4 * test)), (test + 2) // 3))
    subsets = {"train": (known, TRAIN_SPEAKERS), "test": (unknown, TEST_SPEAKERS), "other": (other, TEST_SPEAKERS)}
    with bar("Speaking", train + test + len(other)) as advance:

        def speak_part(name: str, part: range) -> list[Utterance]:
            texts, speakers = subsets[name]
            speaker, utterances = Speaker(), []
            for number in part:
                rng = np.random.default_rng([seed, number, list(subsets).index(name)])
                path = folder / "audio" / f"{name}-{number:05d}.wav"
                utterances.append(speak(speaker, texts[number], speakers, path, sample_rate, rng))
                advance()
            return utterances

        try:
            (folder / "audio").mkdir(parents=True, exist_ok=True)
            for name, (texts, _) in subsets.items():
                parts = [range(first, min(first + PART, len(texts))) for first in range(0, len(texts), PART)]
                made = in_parallel(partial(speak_part, name), parts)
                write_manifest(manifests[name], list(chain.from_iterable(made)))
        except OSError as error:
            raise ManifestError(f"{folder}: cannot be written ({error.strerror}). Give another folder") from None
    return manifests


def partition_sentences(train: int, test: int, seed: int) -> tuple[list[str], list[str]]:
    """Training and test sentences: no two test sentences are alike, and none is a training sentence."""
    if train < 1:
        raise ManifestError(f"{train} training utterances: at least 1 is needed. Ask for more")
    if not 0 < test <= MOST_TEST:
        raise ManifestError(f"{test} test utterances: the grammar has sentences for 1 to {MOST_TEST}. Ask for fewer")
    rng = np.random.default_rng(seed)
    generator = sentences(rng)
    held_out: dict[str, None] = {}
    while len(held_out) < test:
        held_out[next(generator)] = None
    mixed = (free_order(rng) if rng.random() < FREE_ORDER else next(generator) for _ in iter(int, 1))
    return list(islice((text for text in mixed if text not in held_out), train)), list(held_out)


def free_order(rng: np.random.Generator) -> str:
    """Returns two to seven of the grammar's words in random order."""
    words = sorted({word for text in (*TEMPLATES, *WORDS.values()) for word in text.split() if "{" not in word})
    return " ".join(rng.choice(words, rng.integers(2, 8)))


def sentences(rng: np.random.Generator, templates: Sequence[str] = TEMPLATES) -> Iterator[str]:
    """Yields commands to a house without end: a template, and a word for each of its gaps."""

    def word(gap: re.Match) -> str:
        words = WORDS[gap[1]].split()
        return words[rng.integers(len(words))]

    while True:
        yield re.sub(r"\{(\w+)\}", word, templates[int(rng.integers(len(templates)))])


def speak(
    speaker: Speaker, text: str, speakers: Sequence[str], path: Path, sample_rate: int, rng: np.random.Generator
) -> Utterance:
    """Writes a recording of a text: accent, speaker, speed, pitch, loudness and noise are drawn at random."""
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(speakers)}"
    spoken = speaker.say(text, voice, speed=int(rng.integers(*SPEED)), pitch=int(rng.integers(*PITCH)))
    spoken = resample(spoken, speaker.sample_rate, sample_rate)
    before, after = rng.integers(sample_rate // 20, sample_rate // 5, size=2)
    audio = np.pad(spoken * np.float32(rng.uniform(0.3, 0.9)), (before, after))
    audio += rng.standard_normal(len(audio), dtype=np.float32) * np.float32(10 ** rng.uniform(-4, -2.5))
    write_wave(path, audio, sample_rate)
    return Utterance(str(path), len(audio) / sample_rate, text, more={"speaker": voice})


def write_wave(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Writes a waveform as 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", ""))
        file.writeframes((audio.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
