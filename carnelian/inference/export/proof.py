"""What an export prints as its proof: how far its log-probabilities are from the checkpoint's, and the errors and speed of both."""

from collections.abc import Sequence

import numpy as np
import torch

from carnelian.console import bar
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance
from carnelian.inference.export.calibrate import Quantized, Trial, try_engine
from carnelian.inference.export.graph import OnnxModel
from carnelian.inference.long_audio import MARGIN_SECONDS, WINDOW_SECONDS, log_probs_of, window_difference
from carnelian.inference.onnx_engine import OnnxEngine
from carnelian.inference.torch_engine import TorchEngine, ready_engine
from carnelian.models.acoustic import AcousticModel

#: the model, how its log-probabilities changed, its word error rate in percent, its real-time factor
ProofRow = tuple[str, str, str, str]


def float_proof(model: AcousticModel, exported: OnnxModel, utterances: Sequence[Utterance]) -> list[ProofRow]:
    """The rows of the checkpoint and of its export in float32, on recordings with their text, or where there are none on noise.

    `model` is changed to what computes fastest, as by every command that recognizes with a checkpoint.
    """
    rate, noise = model.features.sample_rate, np.random.default_rng(0)
    texts = [utterance.text for utterance in utterances]
    audio = [load_audio(utterance, rate) for utterance in utterances]
    audio = audio or [0.1 * noise.standard_normal(round(rate * seconds), np.float32) for seconds in (1.1, 2.7, 7.0)]
    engine = OnnxEngine(exported.SerializeToString(), threads=1)
    eager = TorchEngine(model, engine.alphabet)
    compared = audio[:: max(1, len(audio) // 4)][:4]
    expected = [log_probs_of(eager, each) for each in compared]  # before it is changed
    apart = largest_difference(expected, engine.log_probs(compared))
    eager = ready_engine(model, engine.alphabet)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with bar("comparing", 2) as advance:
        rows = [proof_row("checkpoint", "", try_engine(eager, audio, texts))]
        advance()
        rows.append(proof_row("fp32", f"{apart:.1e} (from the checkpoint)", try_engine(engine, audio, texts)))
    torch.set_num_threads(threads)
    return rows


def int8_proof(quantized: Quantized) -> ProofRow:
    """The row of the model in 8 bits, on the recordings that it was calibrated with."""
    apart = largest_difference(quantized.float32.log_probs, quantized.int8.log_probs)
    return proof_row("int8", f"{apart:.1e} (from fp32)", quantized.int8)


def windows_proof(exported: OnnxModel) -> str:
    """A line that says how the exported model recognizes long recordings, and how far that is from the whole at once."""
    with bar("windows"):
        apart = window_difference(OnnxEngine(exported.SerializeToString()))
    return (
        f"long recordings are recognized in windows of {WINDOW_SECONDS:g} s, of which {MARGIN_SECONDS:g} s at each inner edge are not "
        f"used: on 90 s of noise the log-probs of windows are at most {apart:.1e} from those of the whole"
    )


def proof_row(name: str, change: str, trial: Trial) -> ProofRow:
    """A row of the printed table, of what a model did on recordings."""
    rate = f"{100 * trial.total.rate:.2f}" if trial.errors else ""
    return name, change, rate, f"{trial.seconds / trial.audio_seconds:.5f}"


def largest_difference(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The largest difference between two models' log-probabilities (O, V) of the same recordings."""
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(first, second))
