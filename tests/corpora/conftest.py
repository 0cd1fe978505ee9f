"""Synthesized speech for the small trees that tests build in the layouts of corpora."""

import sys

import numpy as np
import pytest
import soundfile
from shorten import encoded, sphere

from carnelian import cli
from carnelian.data.audio import resample


@pytest.fixture(scope="session")
def say():
    """`say(text, rate)`: the spoken text, int16 (S,)."""
    pytest.importorskip("espeakng_loader")
    from carnelian.corpora.synthetic import Speaker

    speaker = Speaker()

    def spoken(text: str, rate: int = 8000) -> np.ndarray:
        audio = resample(speaker.say(text, speed=260), speaker.sample_rate, rate)
        return (audio.clip(-1, 1) * 32767).astype(np.int16)

    return spoken


@pytest.fixture(scope="session")
def wv1(say):
    """`wv1(path, text)`: a recording of WSJ's form, shorten-compressed SPHERE of 16 kHz."""

    def write(path, text):
        samples = say(text, 16000)[:12000, None]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            sphere(
                encoded(samples, 2, size=256),
                len(samples),
                sample_rate=16000,
                sample_byte_format="01",
                sample_n_bytes=2,
                sample_checksum=int(samples.astype(int).sum()) & 0xFFFF,
            )
        )

    return write


@pytest.fixture(scope="session")
def call(say):
    """`call(path, seconds)`: a telephone call, two channels of mu-law SPHERE; side B is silent in its first half."""

    def write(path, seconds=4.0):
        size = int(8000 * seconds)
        sides = np.stack([np.resize(say("hello how are you"), size), np.resize(say("i am fine"), size)], axis=1)
        sides[: size // 2, 1] = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sides, 8000, format="NIST", subtype="ULAW")

    return write


@pytest.fixture
def run(monkeypatch, capsys):
    """`run(*words)`: the command line's exit code, and what it printed."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["carnelian", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, capsys.readouterr()

    return call
