"""Programs that speak: espeak-ng in this process; flite, festival and piper, with their own licences, in processes of theirs.

A voice is a function `say(text, voice, speed)` that returns samples (S,) float32 and their rate. The same call gives the same samples.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from carnelian.corpora.synthetic import ACCENTS, TRAIN_SPEAKERS, Speaker
from carnelian.data.audio import audio_info, load_audio
from carnelian.errors import AudioError, CarnelianError

Say = Callable[[str, str, float], tuple[np.ndarray, int]]
WORDS_A_MINUTE = 175  # of espeak-ng at speed 1
SPEECH_TIMEOUT = 120  # seconds for one text
SILENT_RATE, WAV_HEADER = 16000, 44  # of a recording without samples: hertz, bytes


@dataclass(frozen=True, slots=True)
class SpeechEngine:
    """How an engine is started, the voices it speaks with if none are named, and what it needs to be there."""

    start: Callable[[], Say]
    voices: tuple[str, ...]
    needs: str


def start_espeak() -> Say:
    """espeak-ng, from the package espeakng-loader."""
    speaker = Speaker()

    def say(text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        return speaker.say(text, voice, speed=round(WORDS_A_MINUTE * speed)), speaker.sample_rate

    return say


def start_flite() -> Say:
    """flite, a small festival; a voice is one of its own or a .flitevox file."""
    program = find_program("flite")

    def command(voice: str, speed: float, out: Path) -> list[str]:
        stretch = f"duration_stretch={1 / speed:.3f}"
        return [program, "-voice", voice, "--setf", stretch, "-f", "/dev/stdin", "-o", str(out)]

    return spoken_by(command, "flite")


def start_festival() -> Say:
    """festival; a voice is the name after `voice_`, such as kal_diphone."""
    program = find_program("text2wave")

    def command(voice: str, speed: float, out: Path) -> list[str]:
        if not re.fullmatch(r"[A-Za-z0-9_]+", voice):  # it becomes part of a program in Scheme
            raise CarnelianError(f'--voice "{voice}": no name of a festival voice. Give one such as kal_diphone')
        stretch = f"(Parameter.set 'Duration_Stretch {1 / speed:.3f})"
        return [program, "-eval", f"(voice_{voice})", "-eval", stretch, "-o", str(out)]

    return spoken_by(command, "festival")


def start_piper() -> Say:
    """piper, neural voices; a voice is its .onnx file. Without noise in its sampling, so that a text sounds the same each time."""
    program = find_program("piper")

    def command(voice: str, speed: float, out: Path) -> list[str]:
        scale = ["--length-scale", f"{1 / speed:.3f}", "--noise-scale", "0", "--noise-w-scale", "0"]
        return [program, "--model", voice, *scale, "--output-file", str(out)]

    return spoken_by(command, "piper")


SPEECH_ENGINES = {
    "espeak-ng": SpeechEngine(
        start_espeak,
        tuple(f"{accent}+{speaker}" for accent in ACCENTS for speaker in TRAIN_SPEAKERS),
        'pip install "carnelian[quickstart]"',
    ),
    "flite": SpeechEngine(start_flite, ("slt", "rms", "awb", "kal16"), "Debian's package flite"),
    "festival": SpeechEngine(start_festival, ("kal_diphone",), "Debian's packages festival and festvox-kallpc16k"),
    "piper": SpeechEngine(start_piper, (), "the package piper-tts, on the PATH, and a voice (.onnx)"),
}


def find_program(name: str) -> str:
    """The path of a program that speaks; CarnelianError where it is not installed."""
    path = shutil.which(name)
    if not path:
        engine = "festival" if name == "text2wave" else name
        raise CarnelianError(
            f"--engine {engine}: the program {name} is not installed. It is in {SPEECH_ENGINES[engine].needs}"
        )
    return path


def spoken_by(command: Callable[[str, float, Path], list[str]], engine: str) -> Say:
    """A voice whose program reads the text from its standard input and writes a WAV file; where it breaks off, there is no sound."""

    def say(text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        with TemporaryDirectory() as folder:
            out = Path(folder, "speech.wav")
            try:
                run = subprocess.run(
                    command(voice, speed, out), input=f"{text}\n".encode(), capture_output=True, timeout=SPEECH_TIMEOUT
                )
            except subprocess.TimeoutExpired:
                raise CarnelianError(f'{engine}: no end after {SPEECH_TIMEOUT} s with "{text[:40]}"') from None
            header = run.returncode == 0 and out.is_file() and out.stat().st_size == WAV_HEADER
            if run.returncode < 0 or header:  # festival breaks off at a text without words for it, such as "é"
                return np.zeros(0, np.float32), SILENT_RATE
            lines = run.stderr.decode(errors="replace").strip().splitlines()
            found = lines[-1][:200] if lines else f"exit code {run.returncode}"
            try:
                if run.returncode == 0:
                    rate = audio_info(out).sample_rate
                    return load_audio(out, rate), rate
            except AudioError:
                found = "it wrote no recording"
            raise CarnelianError(
                f'{engine}: voice "{voice}" did not speak "{text[:40]}" ({found}). Is the voice there?'
            )

    return say
