"""The acoustic models against another implementation's outputs, gradients and training steps."""

import io
import tarfile

import numpy as np
import pytest
import torch

from carnelian.models.acoustic import AcousticModel
from carnelian.models.block_spec import BlockSpec
from carnelian.models.features import log_mel
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.losses.ctc import ctc_loss
from carnelian.training.optim import NovoGrad

yaml = pytest.importorskip("yaml")


def to_row(layer: dict) -> BlockSpec:
    dense = "dense" if layer.get("residual_dense") else "plain"
    return BlockSpec(
        layer["filters"],
        layer["kernel"][0],
        layer["repeat"],
        stride=layer["stride"][0],
        dilation=layer["dilation"][0],
        dropout=layer["dropout"],
        residual=dense if layer["residual"] else "none",
        separable=bool(layer.get("separable")),
    )


def our_name(name: str, rows: list[BlockSpec]) -> str:
    """Their parameter's name as ours: encoder.encoder.B.{mconv.N,res.R.N}.* and decoder.decoder_layers.0.*."""
    parts = name.replace("conv.weight", "weight").split(".")
    if parts[0] == "decoder":
        return f"head.{parts[-1]}"
    block, kind, rest, last = int(parts[2]), parts[3], parts[4:-1], parts[-1]
    pieces = ["depthwise", "convolution", "norm"] if rows[block].separable else ["convolution", "norm"]
    if kind == "mconv":
        repeat, place = divmod(int(rest[0]), len(pieces) + 2)
        return f"encoder.blocks.{block}.convolutions.{repeat}.{pieces[place]}.{last}"
    return f"encoder.blocks.{block}.residuals.{rest[0]}.{['convolution', 'norm'][int(rest[1])]}.{last}"


def load(folder, name: str) -> tuple[AcousticModel, list[BlockSpec]]:
    with tarfile.open(folder / f"{name}.nemo") as archive:
        settings = yaml.safe_load(archive.extractfile("./model_config.yaml"))
        weights = io.BytesIO(archive.extractfile("./model_weights.ckpt").read())
    rows = [to_row(layer) for layer in settings["encoder"]["jasper"]]
    model = AcousticModel(log_mel(dither=0.0), ConvolutionalEncoder(64, rows), 28)
    state = {
        our_name(name, rows): tensor
        for name, tensor in torch.load(weights, weights_only=True).items()
        if name.startswith(("encoder", "decoder"))
    }
    shapes = model.state_dict()
    model.load_state_dict({name: tensor.reshape(shapes[name].shape) for name, tensor in state.items()})
    return model, rows


def relative(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """The largest difference, in units of the largest value."""
    return float(np.abs(ours.detach().numpy().reshape(theirs.shape) - theirs).max() / (np.abs(theirs).max() + 1e-12))


@pytest.mark.parametrize("pad_to", [0, 16])
@pytest.mark.parametrize("name", ["quartznet_tiny", "jasper_dr_small"])
def test_outputs(shared, name, pad_to):
    folder = shared("nemo/oracle")
    oracle = np.load(folder / f"{name}.npz")
    model = load(folder, name)[0].eval()
    model.features.pad_to = pad_to
    audio, samples = torch.tensor(oracle["waveforms"]), torch.tensor(oracle["wave_lens"])
    with torch.no_grad():
        features, _ = model.features(audio, samples)
        log_probs, steps = model(audio, samples)
        assert np.abs(features.numpy() - oracle[f"feat_pad{pad_to}"]).max() < 1e-3
        for row, step in enumerate(steps.tolist()):
            expected = oracle[f"logprobs_pad{pad_to}"][row, :step]
            assert np.abs(log_probs[row, :step].numpy() - expected).max() < 1e-3
            alone, (length,) = model(audio[row : row + 1, : samples[row]], samples[row : row + 1])
            expected = oracle[f"single{row}_logprobs_pad{pad_to}"][0, :step]
            assert length == step
            assert np.abs(alone[0, :step].numpy() - expected).max() < 1e-3
            torch.testing.assert_close(alone[0, :step], log_probs[row, :step], atol=1e-4, rtol=1e-4)


def test_training(shared):
    folder = shared("nemo/oracle")
    oracle, data = np.load(folder / "quartznet_tiny_train.npz"), np.load(folder / "quartznet_tiny.npz")
    model, rows = load(folder, "quartznet_tiny")
    optimizer = NovoGrad(model.parameters(), lr=0.01, betas=(0.8, 0.5), weight_decay=0.001)
    batch = [torch.tensor(data[name]) for name in ("waveforms", "wave_lens")]
    targets = [torch.tensor(oracle[name]) for name in ("targets", "target_lens")]
    model.train()
    for step in range(4):
        losses = ctc_loss(*model(*batch), *targets)
        if step == 0:
            np.testing.assert_allclose(losses.detach().numpy(), oracle["per_utt_nll_step0"], rtol=1e-3)
        assert losses.mean().item() == pytest.approx(float(oracle["losses"][step]), rel=1e-3)
        optimizer.zero_grad()
        losses.mean().backward()
        if step == 0:
            gradients = dict(model.named_parameters())
            compared = [key for key in oracle.files if key.startswith("grad0/")]
            assert len(compared) == len(gradients)
            for key in compared:
                assert relative(gradients[our_name(key[6:], rows)].grad, oracle[key]) < 1e-3, key
        optimizer.step()
        weights = model.state_dict()
        for key in (key for key in oracle.files if key.startswith(f"after{step + 1}/")):
            if "preproc" not in key and "num_batches" not in key:
                assert relative(weights[our_name(key[7:], rows)], oracle[key]) < 1e-3, key
