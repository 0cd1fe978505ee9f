"""Checkpoints of DeepLearningExamples: names, averaged and plain weights, and the line for each fault."""

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from carnelian.checkpoint import load_weights
from carnelian.errors import CheckpointError
from carnelian.formats.detect import detect_and_read, read_content
from carnelian.models.block_spec import BlockSpec
from carnelian.models.registry import build_model

JASPER = [
    BlockSpec(6, 5, stride=2),
    BlockSpec(7, 5, 2, residual="dense"),
    BlockSpec(8, 3, 2, residual="dense"),
    BlockSpec(8, 7, dilation=2),
    BlockSpec(9, 1),
]
QUARTZNET = [
    BlockSpec(6, 5, stride=2, separable=True),
    BlockSpec(7, 5, 2, residual="plain", separable=True),
    BlockSpec(7, 3, 2, residual="plain", separable=True, groups=1),
    BlockSpec(8, 7, dilation=2, separable=True),
    BlockSpec(9, 1),
]


def norm(channels):
    layer = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.1)
    for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
        tensor.uniform_(0.5, 1.5)
    return layer


class Reference(nn.Module):
    """The network as the recipe there builds it, with its names and its padding, for one utterance without padding."""

    def __init__(self, rows, attribute, features=8):
        super().__init__()
        self.rows, self.attribute = rows, attribute
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = nn.ModuleList()
        panes, inputs = [], features
        for row in rows:
            block, width, modules = nn.Module(), inputs, []
            panes = [*panes, inputs] if row.residual == "dense" else panes
            for index in range(row.repeat):
                padding = (row.kernel // 2) * row.dilation
                time = {"stride": row.stride, "dilation": row.dilation, "padding": padding, "bias": False}
                if row.separable:
                    modules.append(nn.Conv1d(width, width, row.kernel, groups=width, **time))
                    modules.append(nn.Conv1d(width, row.channels, 1, bias=False))
                else:
                    modules.append(nn.Conv1d(width, row.channels, row.kernel, **time))
                modules.append(norm(row.channels))
                if index < row.repeat - 1:
                    modules += [nn.ReLU(), nn.Dropout(0.0)]
                width = row.channels
            setattr(block, attribute, nn.ModuleList(modules))
            sources = {"none": [], "plain": [inputs], "dense": panes}[row.residual]
            if sources:
                pointwise = [nn.Conv1d(source, row.channels, 1, bias=False) for source in sources]
                block.res = nn.ModuleList(nn.ModuleList([convolution, norm(row.channels)]) for convolution in pointwise)
            self.encoder.layers.append(block)
            inputs = row.channels
        self.decoder.layers = nn.Sequential(nn.Conv1d(inputs, 29, 1))

    def forward(self, features):
        seen = [features]
        for row, block in zip(self.rows, self.encoder.layers):
            encoded = seen[-1]
            for module in getattr(block, self.attribute):
                encoded = module(encoded)
            for source, (convolution, layer) in zip(seen, getattr(block, "res", [])):
                encoded = encoded + layer(convolution(source))
            seen = [*seen, encoded.relu()] if row.residual == "dense" else [encoded.relu()]
        return self.decoder.layers(seen[-1]).transpose(1, 2).log_softmax(2)


def content(rows, attribute):
    torch.manual_seed(1)
    models = Reference(rows, attribute).eval(), Reference(rows, attribute).eval()
    return models, {
        "epoch": 3,
        "step": 100,
        "best_wer": 0.1,
        "state_dict": {f"module.{name}": tensor for name, tensor in models[0].state_dict().items()},
        "ema_state_dict": models[1].state_dict(),
        "optimizer": {},
    }


@pytest.mark.parametrize("rows, attribute", [(JASPER, "conv"), (QUARTZNET, "mconv")])
@pytest.mark.parametrize("weights", ["last", "average"])
def test_equal_to_their_network(tmp_path, rows, attribute, weights):
    models, saved = content(rows, attribute)
    torch.save(saved, tmp_path / "Jasper_epoch3_checkpoint.pt")
    found = detect_and_read(tmp_path / "Jasper_epoch3_checkpoint.pt", weights=weights)
    model = build_model(found.recipe, found.alphabet).eval()
    load_weights(model, found.weights, where="test")
    assert model.encoder.specs == tuple(rows)
    settings = found.recipe["features"]
    assert (settings["log_guard"], settings["frame_count"], settings["edge"]) == (1e-20, "ceil", "reflect")
    features = torch.randn(2, 8, 50)
    with torch.no_grad():
        encoded, _ = model.encoder(features, torch.tensor([50, 50]))
        log_probs = model.head(encoded.transpose(1, 2)).log_softmax(-1)
        expected = models[weights == "average"](features)
    torch.testing.assert_close(log_probs, expected, atol=1e-4, rtol=1e-4)
    assert f"the weights of {'ema_state_dict' if weights == 'average' else 'state_dict'} were taken" in found.remarks


def test_one_clear_line_for_others():
    _, saved = content(JASPER, "conv")
    for change, expected in [
        ({"ema_state_dict": {"encoder.layers.0.conv.0.weight": torch.zeros(6, 8, 5)}}, "1.weight is missing"),
        ({"ema_state_dict": {"lstm.weight": torch.zeros(3)}}, 'holds "lstm.weight", of a module that is unknown'),
        ({"ema_state_dict": None, "state_dict": None}, "has no state_dict"),
    ]:
        with pytest.raises(CheckpointError, match=expected):
            read_content(Path("x.pt"), {**saved, **change}, None, "average")
    with pytest.raises(CheckpointError, match="expected a dictionary of weights"):
        read_content(Path("x.pt"), [1, 2], None, "average")
    with pytest.raises(CheckpointError, match="which no known toolkit writes"):
        read_content(Path("x.pt"), {"weights": 3}, None, "average")


def test_with_its_configuration(tmp_path):
    config = """
labels: [" ", a, b]
input_val:
  filterbank_features: &features {n_filt: &bands 8, window_size: 0.025, window_stride: 0.01, n_fft: 512, pad_align: 16}
quartznet:
  encoder:
    in_feats: *bands
    activation: relu
    use_conv_masks: true
    blocks:
    - {filters: 6, repeat: 1, kernel_size: [5], stride: [1], dilation: [1], dropout: 0.1, residual: false, separable: true}
    - {filters: 9, repeat: 1, kernel_size: [1], stride: [1], dilation: [1], dropout: 0.0, residual: false}
"""
    (tmp_path / "config.yaml").write_text(config)
    _, saved = content([BlockSpec(6, 5, separable=True), BlockSpec(9, 1)], "mconv")
    saved["ema_state_dict"]["decoder.layers.0.weight"] = torch.zeros(4, 9, 1)
    saved["ema_state_dict"]["decoder.layers.0.bias"] = torch.zeros(4)
    torch.save(saved, tmp_path / "x.pt")
    found = detect_and_read(tmp_path / "x.pt", config=tmp_path / "config.yaml")
    assert found.alphabet.symbols == (" ", "a", "b")
    assert found.recipe["encoder"]["blocks"] == [
        {"channels": 6, "kernel": 5, "dropout": 0.1, "separable": True},
        {"channels": 9, "kernel": 1},
    ]
    assert found.recipe["features"]["window"] == 0.025 and found.recipe["features"]["log_guard"] == 1e-20


def test_even_kernels_are_refused():
    rows = [BlockSpec(6, 4, stride=2), BlockSpec(9, 1)]
    with pytest.raises(CheckpointError, match="even kernels"):
        read_content(Path("x.pt"), content(rows, "conv")[1], None, "average")


def test_unfinished_download(tmp_path):
    buffer = io.BytesIO()
    torch.save(content(JASPER, "conv")[1], buffer)
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue()[:5000])
    with pytest.raises(CheckpointError, match="cut short"):
        detect_and_read(tmp_path / "cut.pt")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>Not found</html>")
    with pytest.raises(CheckpointError, match="a web page"):
        detect_and_read(tmp_path / "page.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        detect_and_read(tmp_path / "none.pt")
