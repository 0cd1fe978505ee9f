"""Recordings to text, beside NeMo's `transcribe` on the same files with the same weights: reading, features, network, decoding.

    python benchmarks/recognition.py MODEL MANIFEST --nemo PATH/TO/NEMO/bin/python [--language-model LM] [--rounds 3]

MODEL is a checkpoint of an encoder that NeMo knows (Jasper, QuartzNet and their kin). NeMo decodes greedily, and so is done here
unless a language model is given. Both run on as many threads as OMP_NUM_THREADS says. The first table leaves starting and loading
out, the second is a whole process each.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inference import Nemo, timed

from carnelian.checkpoint import load_model
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest, Utterance
from carnelian.decoding.settings import DecodingConfig
from carnelian.formats.nemo.export import write_nemo
from carnelian.inference.export.calibrate import quantize
from carnelian.inference.export.model import onnx_model
from carnelian.inference.processor import processor_facts
from carnelian.inference.recognizer import Recognizer


def other_recognizers(utterances: list[Utterance]) -> dict[str, Callable[[], float]]:
    """Recognizers with models of their own, where they are installed: their speed compares, their task is another one."""
    audio = [load_audio(utterance, 16_000) for utterance in utterances]
    found: dict[str, Callable[[], float]] = {}
    try:
        from pocketsphinx import Decoder  # en-us, hidden Markov models and a trigram

        decoder = Decoder(samprate=16_000, loglevel="FATAL")

        def decode() -> None:
            for each in audio:
                decoder.start_utt()
                decoder.process_raw((each.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
                decoder.end_utt()

        found["pocketsphinx"] = lambda: timed(decode)
    except ImportError:
        pass
    try:
        from hama import ASRModel  # phonemes by CTC

        model = ASRModel()
        found["hama"] = lambda: timed(lambda: [model.transcribe_waveform(each, 16_000) for each in audio])
    except ImportError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--nemo", required=True, help="the python of an environment with NeMo")
    parser.add_argument("--language-model", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    utterances = list(Manifest(given.manifest))
    files = [str(Path(utterance.audio_filepath).resolve()) for utterance in utterances]
    seconds = sum(utterance.duration for utterance in utterances)
    print(
        f"{processor_facts()[0]}: {', '.join(processor_facts()[1])}; {len(files)} files, {seconds:.0f} s; {' '.join(sys.argv[1:])}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, checkpoint = load_model(given.model)
        write_nemo(folder / "model.nemo", model, checkpoint.recipe, checkpoint.alphabet)
        graph = onnx_model(model, checkpoint)
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
        small = quantize(graph, utterances, model.features.sample_rate).model
        (folder / "model.int8.onnx").write_bytes(small.SerializeToString())
        decoding = DecodingConfig(language_model=given.language_model)
        nemo = Nemo(given.nemo, folder / "model.nemo", folder)
        runs: dict[str, Callable[[], float]] = {"NeMo": lambda: nemo.ask(files=files, threads=given.threads)["seconds"]}
        for name in ("model.onnx", "model.int8.onnx"):
            recognizer = Recognizer.load(folder / name, decoding=decoding, threads=given.threads)
            runs[name] = lambda recognizer=recognizer: timed(lambda: list(recognizer.recognize(utterances)))
        runs |= other_recognizers(utterances)
        found: dict[str, list[float]] = {name: [] for name in runs}
        for index in range(given.rounds + 1):
            for name, run in runs.items():
                took = run()
                if index:  # the first round warms up
                    found[name].append(took)
        for name, times in found.items():
            ratio = np.median(np.divide(found["NeMo"], times))
            print(f"{name:18}{np.median(times):8.2f} s{np.median(times) / seconds:10.5f} RTF{ratio:8.1f} x NeMo")
        print("with start:")
        started = time.perf_counter()
        Nemo(given.nemo, folder / "model.nemo", folder).ask(files=files, threads=given.threads)
        whole = time.perf_counter() - started
        print(f"{'NeMo':18}{whole:8.2f} s")
        command = [sys.executable, "-m", "carnelian", "transcribe", str(folder / "model.onnx"), str(given.manifest)]
        command += ["--language-model", given.language_model] if given.language_model else []
        ours = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        print(f"{'model.onnx':18}{ours:8.2f} s{whole / ours:27.1f} x NeMo")


if __name__ == "__main__":
    main()
