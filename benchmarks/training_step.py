"""A training step of QuartzNet or Jasper: NeMo (where installed), plain Conv1d layers, and ours, with their peak memory.

    python benchmarks/training_step.py [--blocks 5] [--batch 8] [--seconds 15] [--threads 2] [--repeats 5]
    python benchmarks/training_step.py --model jasper --batch 4 --seconds 5 --contestants NeMo --contestants "carnelian fp32"

Each contestant is a process of its own. A step is features, forward, CTC, backward and optimizer on the same waveforms and targets.
plain Conv1d: QuartzNet's layers only.
"""

import atexit
import multiprocessing
import os
import resource
from types import SimpleNamespace
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import nn

from carnelian.benchmarking.rounds import CallSeconds, seconds_of
from carnelian.cli import as_typer
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark

TARGET_LENGTH = 150


def known_contestants() -> dict:
    """Functions that build a step, by name; NeMo's first where it is installed."""
    try:
        import nemo  # noqa: F401

        first = {"NeMo": nemo_step}
    except ImportError:
        first = {}
    return {
        **first,
        "plain Conv1d": plain_step,
        "carnelian fp32": lambda settings: our_step(settings, "fp32"),
        "carnelian bf16": lambda settings: our_step(settings, "bf16"),
    }


def waveforms(settings) -> tuple[torch.Tensor, ...]:
    """Audio (B, S), samples (B,), targets (B, L), symbols (B,): noise, for a step takes as long whatever is said."""
    torch.manual_seed(0)
    samples = int(16_000 * settings.seconds)
    audio = 0.1 * torch.randn(settings.batch, samples)
    targets = torch.randint(0, 28, (settings.batch, TARGET_LENGTH))
    return audio, torch.full((settings.batch,), samples), targets, torch.full((settings.batch,), TARGET_LENGTH)


def our_step(settings, precision: str):
    from carnelian.models.acoustic import AcousticModel
    from carnelian.models.device import keep_freed_memory
    from carnelian.models.encoders.jasper import jasper
    from carnelian.models.encoders.quartznet import quartznet
    from carnelian.models.features import log_mel
    from carnelian.models.losses.ctc import ctc_loss
    from carnelian.training.fit import set_rate
    from carnelian.training.optim import novograd

    keep_freed_memory()  # as every training does
    encoder = jasper(dropout=0.0) if settings.model == "jasper" else quartznet(blocks=settings.blocks)
    model = AcousticModel(log_mel(), encoder, 28).train()
    optimizer = novograd(model.parameters())
    audio, lengths, targets, target_lengths = waveforms(settings)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            log_probs, steps = model(audio, lengths)
            loss = ctc_loss(log_probs, steps, targets, target_lengths).mean()
        loss.backward()
        set_rate(optimizer, 1e-4)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class PlainBlock(nn.Module):
    """A QuartzNet block as the paper draws it: Conv1d, BatchNorm1d, ReLU, each input masked by multiplication."""

    def __init__(
        self, inputs: int, channels: int, kernel: int, repeat: int, stride: int, dilation: int, residual: bool
    ):
        super().__init__()
        self.depthwise, self.pointwise, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for index in range(repeat):
            given = inputs if index == 0 else channels
            padding = dilation * (kernel - 1) // 2
            time_settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": given, "bias": False}
            self.depthwise.append(nn.Conv1d(given, given, kernel, **time_settings))
            self.pointwise.append(nn.Conv1d(given, channels, 1, bias=False))
            self.norms.append(nn.BatchNorm1d(channels, eps=1e-3))
        self.residual = (
            nn.Sequential(nn.Conv1d(inputs, channels, 1, bias=False), nn.BatchNorm1d(channels)) if residual else None
        )

    def forward(self, encoded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        source = encoded
        for index, (depthwise, pointwise, norm) in enumerate(zip(self.depthwise, self.pointwise, self.norms)):
            encoded = depthwise(encoded * mask)
            mask = mask[..., :: depthwise.stride[0]]
            encoded = norm(pointwise(encoded * mask))
            if index + 1 < len(self.norms):
                encoded = F.relu(encoded)
        if self.residual is not None:
            encoded = encoded + self.residual(source * mask)
        return F.relu(encoded)


def plain_step(settings):
    from carnelian.models.features import log_mel

    features = log_mel()
    kernels = [(256, 33), (256, 39), (512, 51), (512, 63), (512, 75)]
    blocks, inputs = [PlainBlock(64, 256, 33, 1, 2, 1, False)], 256
    for channels, kernel in kernels:
        for _ in range(settings.blocks // 5):
            blocks.append(PlainBlock(inputs, channels, kernel, 5, 1, 1, True))
            inputs = channels
    blocks += [PlainBlock(512, 512, 87, 1, 1, 2, False), PlainBlock(512, 1024, 1, 1, 1, 1, False)]
    layers, head = nn.ModuleList(blocks), nn.Conv1d(1024, 29, 1)
    optimizer = torch.optim.SGD([*layers.parameters(), *head.parameters()], lr=1e-4, momentum=0.9)
    audio, lengths, targets, target_lengths = waveforms(settings)

    def step() -> None:
        encoded, frames = features(audio, lengths)
        for block in layers:
            mask = (torch.arange(encoded.shape[-1]) < frames[:, None])[:, None].float()
            encoded = block(encoded, mask)
            frames = (frames - 1) // block.depthwise[0].stride[0] + 1
        log_probs = head(encoded).log_softmax(1).permute(2, 0, 1)
        F.ctc_loss(log_probs, targets, frames, target_lengths, blank=28, reduction="sum").backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def nemo_step(settings):
    from nemo.collections.asr.models import EncDecCTCModel
    from omegaconf import OmegaConf

    dense = settings.model == "jasper"
    if dense:
        rows = [(256, 11, 1, 2, 1, False)]
        for channels, kernel in [(256, 11), (384, 13), (512, 17), (640, 21), (768, 25)]:
            rows += [(channels, kernel, 5, 1, 1, True)] * 2
        rows += [(896, 29, 1, 1, 2, False), (1024, 1, 1, 1, 1, False)]
    else:
        rows = [(256, 33, 1, 2, 1, False)]
        for channels, kernel in [(256, 33), (256, 39), (512, 51), (512, 63), (512, 75)]:
            rows += [(channels, kernel, 5, 1, 1, True)] * (settings.blocks // 5)
        rows += [(512, 87, 1, 1, 2, False), (1024, 1, 1, 1, 1, False)]
    keys = ("filters", "kernel", "repeat", "stride", "dilation", "residual")
    table = [dict(zip(keys, (row[0], [row[1]], row[2], [row[3]], [row[4]], row[5]))) for row in rows]
    jasper = [
        {
            **row,
            "dropout": 0.0,
            "separable": not dense and row["kernel"] != [1],
            "residual_dense": dense and row["residual"],
        }
        for row in table
    ]
    labels = list(" abcdefghijklmnopqrstuvwxyz'")
    modules = "nemo.collections.asr.modules"
    config = {
        "sample_rate": 16_000,
        "labels": labels,
        "train_ds": None,
        "validation_ds": None,
        "preprocessor": {
            "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
            "features": 64,
            "n_fft": 512,
            "window": "hann",
        },
        "encoder": {
            "_target_": f"{modules}.ConvASREncoder",
            "feat_in": 64,
            "activation": "relu",
            "conv_mask": True,
            "jasper": jasper,
        },
        "decoder": {"_target_": f"{modules}.ConvASRDecoder", "feat_in": 1024, "num_classes": 28, "vocabulary": labels},
        "optim": {"name": "novograd", "lr": 1e-4, "betas": [0.95, 0.5], "weight_decay": 0.001},
    }
    model = EncDecCTCModel(OmegaConf.create(config)).train()
    from nemo.core.optim import Novograd

    optimizer = Novograd(model.parameters(), lr=1e-4, betas=(0.95, 0.5), weight_decay=0.001)
    audio, lengths, targets, target_lengths = waveforms(settings)

    def step() -> None:
        log_probs, steps, _ = model(input_signal=audio, input_signal_length=lengths)
        loss = model.loss(log_probs=log_probs, targets=targets, input_lengths=steps, target_lengths=target_lengths)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def serve(name: str, settings, pipe) -> None:
    """A contestant's process: one step for each word of the pipe, its wall and processor seconds and peak memory back."""
    torch.set_num_threads(settings.threads)
    step = known_contestants()[name](settings)
    pipe.send("ready")
    while pipe.recv():
        seconds = seconds_of(step)
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


class Contestant:
    """A process that takes a step when it is asked to."""

    def __init__(self, name: str, settings):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        context.Process(target=serve, args=(name, settings, theirs), daemon=True).start()
        self.pipe.recv()
        self.peak = 0.0
        atexit.register(self.pipe.send, False)

    def step(self) -> CallSeconds:
        self.pipe.send(True)
        seconds, self.peak = self.pipe.recv()
        return seconds


def main(
    *,
    model: Annotated[str, "quartznet, or jasper: 10x5 with dense residuals"] = "quartznet",
    contestants: Annotated[list[str], "only these, by name; may be given again"] = [],  # noqa: B006
    blocks: Annotated[int, "QuartzNet's blocks"] = 5,
    batch: Annotated[int, "utterances"] = 8,
    seconds: Annotated[float, "seconds of each"] = 15.0,
    threads: Annotated[int, "threads of each"] = 2,
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    settings = SimpleNamespace(model=model, blocks=blocks, batch=batch, seconds=seconds, threads=threads)
    contenders = []
    for name in contestants or known_contestants():
        running = Contestant(name, settings)
        work = {"utterances": float(batch), "audio_seconds": batch * seconds}
        contenders.append(Contender({"step": name}, running.step, work, lambda running=running: {"GB": running.peak}))
    baseline = {"step": contenders[0].case["step"]}
    run_benchmark(options, lambda: measure_in_turns("training", contenders, options, baseline=baseline))


if __name__ == "__main__":
    typer.run(as_typer(main))
