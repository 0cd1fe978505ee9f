"""Recordings to text, beside NeMo's `transcribe` on the same files with the same weights: reading, features, network, decoding.

    python benchmarks/recognition.py MODEL MANIFEST --nemo PATH/TO/NEMO/bin/python [--language-model LM] [--repeats 3]

MODEL is a checkpoint of an encoder that NeMo knows (Jasper, QuartzNet and their kin). NeMo decodes greedily, and so is done here
unless a language model is given. Starting and loading are left out, but for "a process": one that starts, recognizes all, and ends.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from inference import Nemo

from carnelian.checkpoint import load_model
from carnelian.cli import as_typer
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest, Utterance
from carnelian.decoding.settings import DecodingConfig
from carnelian.formats.nemo.export import write_nemo
from carnelian.inference.export.calibrate import quantize
from carnelian.inference.export.model import onnx_model
from carnelian.inference.recognizer import Recognizer


def other_recognizers(utterances: list[Utterance]) -> dict[str, object]:
    """Recognizers with models of their own, where they are installed: their speed compares, their task is another one."""
    audio = [load_audio(utterance, 16_000) for utterance in utterances]
    found: dict[str, object] = {}
    try:
        from pocketsphinx import Decoder  # en-us, hidden Markov models and a trigram

        decoder = Decoder(samprate=16_000, loglevel="FATAL")

        def decode() -> None:
            for each in audio:
                decoder.start_utt()
                decoder.process_raw((each.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
                decoder.end_utt()

        found["pocketsphinx"] = decode
    except ImportError:
        pass
    try:
        from hama import ASRModel  # phonemes by CTC

        model = ASRModel()
        found["hama"] = lambda: [model.transcribe_waveform(each, 16_000) for each in audio]
    except ImportError:
        pass
    return found


def main(
    model: Annotated[Path, "a checkpoint"],
    manifest: Annotated[Path, "the recordings"],
    *,
    nemo: Annotated[str, "the python of an environment with NeMo"],
    language_model: Annotated[str, "decode with this n-gram model"] = "",
    threads: Annotated[int, "threads of each"] = 1,
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    utterances = list(Manifest(manifest))
    files = [str(Path(utterance.audio_filepath).resolve()) for utterance in utterances]
    work = {"utterances": float(len(files)), "audio_seconds": sum(utterance.duration for utterance in utterances)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights, checkpoint = load_model(model)
        write_nemo(folder / "model.nemo", weights, checkpoint.recipe, checkpoint.alphabet)
        graph = onnx_model(weights, checkpoint)
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
        small = quantize(graph, utterances, weights.features.sample_rate).model
        (folder / "model.int8.onnx").write_bytes(small.SerializeToString())
        worker = Nemo(nemo, folder / "model.nemo", folder)
        runs = {"NeMo": lambda: worker.seconds(files=files, threads=threads)}
        for name in ("model.onnx", "model.int8.onnx"):
            decoding = DecodingConfig(language_model=language_model)
            recognizer = Recognizer.load(folder / name, decoding=decoding, threads=threads)
            runs[name] = lambda recognizer=recognizer: list(recognizer.recognize(utterances))
        runs |= other_recognizers(utterances)
        command = [sys.executable, "-m", "carnelian", "transcribe", str(folder / "model.onnx"), str(manifest)]
        command += ["--language-model", language_model] if language_model else []
        runs["model.onnx, a process"] = lambda: subprocess.run(command, check=True, capture_output=True)
        runs["NeMo, a process"] = lambda: Nemo(nemo, folder / "model.nemo", folder).ask(files=files, threads=threads)
        contenders = [Contender({"path": name}, run, work) for name, run in runs.items()]
        baseline = {"path": "NeMo"}
        run_benchmark(options, lambda: measure_in_turns("recognition", contenders, options, baseline=baseline))


if __name__ == "__main__":
    typer.run(as_typer(main))
