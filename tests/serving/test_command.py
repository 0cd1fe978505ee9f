"""`carnelian serve` with a model: the same text as `carnelian transcribe`, and what it refuses to do."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from carnelian import Recognizer, load_audio
from carnelian.commands.options import RecognizerOptions
from carnelian.commands.serve import served_model

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*words, **environment):
    command = [sys.executable, "-m", "carnelian", "serve", *map(str, words)]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
    )


def test_the_command_gives_the_text_that_the_recognizer_gives(model, encoder, form, tmp_path):
    process = run(model, "--port", "0", "--work-seconds", "0.2")
    try:
        found = next(json.loads(line) for line in process.stderr if '"ready"' in line)
        assert found["model"] == "nonsense"
        generator = np.random.default_rng(5)
        recordings = [encoder(generator.normal(0, 0.2, generator.integers(8000, 60_000))) for _ in range(12)]

        def transcribe(recording: bytes) -> str:
            connection = HTTPConnection("127.0.0.1", found["port"], timeout=60)
            body, kind = form(recording, response_format="text")
            connection.request("POST", "/v1/audio/transcriptions", body, {"content-type": kind})
            return connection.getresponse().read().decode().rstrip("\n")

        with ThreadPoolExecutor(12) as pool:
            texts = list(pool.map(transcribe, recordings))
        recognizer = Recognizer.load(model)
        expected = []
        for recording in recordings:
            (tmp_path / "a.wav").write_bytes(recording)
            expected.append(recognizer(load_audio(tmp_path / "a.wav", 16_000)).text)
        assert texts == expected and len(set(texts)) > 6
    finally:
        process.terminate()
        process.wait(20)


def test_other_machines_need_a_key(model, tmp_path):
    process = run(model, "--host", "0.0.0.0", "--port", "0")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "there is no API key. Give --api-keys FILE or set CARNELIAN_API_KEYS; or --without-keys" in error
    process = run(model, "--host", "0.0.0.0", "--wyoming", "10300", CARNELIAN_API_KEYS="first")
    assert "the Wyoming protocol knows no keys" in process.communicate(timeout=60)[1]
    (tmp_path / "keys").write_text("\n\n")
    process = run(model, "--api-keys", tmp_path / "keys")
    assert "there is no key in it" in process.communicate(timeout=60)[1]


def test_a_port_that_is_taken_is_one_line(model, service):
    process = run(model, "--port", service.port)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.splitlines()[-1].endswith(
        "cannot listen there (Address already in use). Give another --host or --port"
    )


def test_hot_words_are_those_that_the_model_can_spell(model):
    served = served_model(Recognizer.load(model), RecognizerOptions(), name="m")
    assert served.hot_words(["Anna", "new york", "日本", "x-ray"]) == ("anna", "new", "york")
    audio = np.random.default_rng(0).normal(0, 0.2, 32_000).astype(np.float32)
    plain, expected = served.recognize([audio, audio[:20_000]], [(), ("anna",)])
    assert plain.text == served.recognize([audio], [()])[0].text
    assert expected.duration == 1.25 and "anna" in expected.text.split()
