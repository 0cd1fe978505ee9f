"""wav2vec checkpoints of fairseq against their definition in plain torch modules."""

import io
import math
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

from carnelian.errors import CheckpointError
from carnelian.formats.fairseq import layers, read_fairseq
from carnelian.formats.safe_loading import read_pickle
from carnelian.formats.wav2vec2 import weight_pairs
from carnelian.models.encoders.wav2vec import wav2vec
from carnelian.models.encoders.wav2vec2 import wav2vec2
from carnelian.models.registry import build_model

ENCODER, AGGREGATOR = [(8, 10, 5), (8, 8, 4), (8, 4, 2)], [(8, 2, 1), (8, 3, 1), (8, 4, 1)]


class Reference(nn.Module):
    """fairseq's modules by name, as wav2vec.py there puts them together; one utterance at a time."""

    def __init__(self, skip: bool):
        super().__init__()
        self.skip = skip
        self.feature_extractor, self.feature_aggregator = nn.Module(), nn.Module()
        inputs = [1] + [layer[0] for layer in ENCODER[:-1]]
        self.feature_extractor.conv_layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width, c, k, stride=s, bias=False), nn.Dropout(0.0), nn.GroupNorm(1, c), nn.ReLU())
            for width, (c, k, s) in zip(inputs, ENCODER)
        )
        self.feature_aggregator.conv_layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ReplicationPad1d((k - 1, 0)), nn.Conv1d(c, c, k), nn.Dropout(0.0), nn.GroupNorm(1, c), nn.ReLU()
                )
                for c, k, _ in AGGREGATOR
            )
        )
        self.wav2vec_predictions = nn.Module()
        self.wav2vec_predictions.project_to_steps = nn.ConvTranspose2d(8, 8, (1, 12))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, audio):
        encoded = audio[None, None]
        for layer in self.feature_extractor.conv_layers:
            encoded = layer(encoded)
        encoded = torch.log(encoded.abs() + 1)
        for layer in self.feature_aggregator.conv_layers:
            grown = layer(encoded)
            encoded = (grown + encoded) * math.sqrt(0.5) if self.skip else grown
        return encoded[0]


def checkpoint(reference, **changes):
    settings = {
        "arch": "wav2vec",
        "conv_feature_layers": "[(8, 10, 5)] + [(8, 8, 4), (8, 4, 2)]",
        "conv_aggregator_layers": str(AGGREGATOR),
        "skip_connections_agg": reference.skip,
        "residual_scale": 0.5,
        "log_compression": True,
        **changes,
    }
    buffer = io.BytesIO()
    torch.save({"args": Namespace(**settings), "model": reference.state_dict(), "optimizer_history": []}, buffer)
    return read_pickle("wav2vec.pt", buffer.getvalue())


@pytest.mark.parametrize("skip", [True, False])
def test_equal_to_the_definition_alone_and_in_a_batch(skip):
    torch.manual_seed(0)
    reference = Reference(skip)
    found = read_fairseq(Path("wav2vec.pt"), checkpoint(reference))
    table = {key: value for key, value in found.recipe["features"].items() if key != "name"}
    model = wav2vec(**table)
    model.load_state_dict({name.removeprefix("features."): tensor for name, tensor in found.weights.items()})
    audio, lengths = torch.randn(3, 3000), torch.tensor([3000, 1777, 901])
    with torch.no_grad():
        features, frames = model(audio, lengths)
        for row, length in enumerate(lengths.tolist()):
            expected = reference(audio[row, :length])
            assert frames[row] == expected.shape[1]
            torch.testing.assert_close(features[row, :, : frames[row]], expected, atol=1e-5, rtol=1e-4)
            assert not features[row, :, frames[row] :].any()
    assert "a front end, no recognizer" in found.remarks[0]


def test_layers_are_read_and_never_run():
    assert layers(Path("x"), "[(512, 10, 5)] + [(512, 4, 2)] * 2") == [(512, 10, 5), (512, 4, 2), (512, 4, 2)]
    for text in ("__import__('os').system('true')", "[1] * 10**9", "[(1, 2)]", "[]", "(", None):
        with pytest.raises(CheckpointError, match="expected a list of"):
            layers(Path("x"), text)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"arch": "data2vec"}, '"data2vec"; wav2vec 1.0 and 2.0 are read'),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"conv_aggregator_layers": "[(8, 2, 1)]"}, "of a module that is unknown"),
        ({"conv_feature_layers": "[(8, 10, 5), (8, 8, 4), (8, 5, 2)]"}, "is of shape"),
    ],
)
def test_one_clear_line_for_others(change, expected):
    with pytest.raises(CheckpointError, match=expected):
        read_fairseq(Path("wav2vec.pt"), checkpoint(Reference(True), **change))


def test_released_model_has_its_size():
    with torch.device("meta"):
        large = wav2vec()
        base = wav2vec(kernels=(10, 8, 4, 4, 4), strides=(5, 4, 2, 2, 2), context=(3,) * 9, skip=False)
    assert large.hop == base.hop == 0.01
    # with the 3.1 million of the pre-training's predictions, the 32.5 million of the released file
    assert sum(parameter.numel() for parameter in large.parameters()) == 29_390_848
    assert base.shortest == 465  # about 30 ms


SMALL = {"channels": 16, "layers": 2, "heads": 2, "feedforward": 32, "width": 8, "kernels": (10, 3), "strides": (5, 4)}


def fairseq_wav2vec2(path, *, tuned, layer_norm):
    """A wav2vec 2.0 of ours under fairseq's names: its settings in both forms, quantizer and all."""
    torch.manual_seed(0)
    extra = {"feature_norm": "layer", "bias": True, "pre_norm": True} if layer_norm else {}
    model = wav2vec2(**SMALL, **extra, position_kernel=16, position_groups=2)
    table = {"name": "wav2vec2", **SMALL, "feature_norm": "group", **extra}
    ours, prefix = model.state_dict(), "w2v_encoder.w2v_model." if tuned else ""
    weights = {prefix + theirs: ours[name] for name, theirs in weight_pairs(table, 1)}
    weights |= {prefix + "mask_emb": ours["mask_vector"], prefix + "quantizer.vars": torch.zeros(3)}
    settings = {
        "_name": "wav2vec2", "conv_feature_layers": "[(8, 10, 5), (8, 3, 4)]", "encoder_layers": 2, "encoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2, "conv_pos": 16, "conv_pos_groups": 2, "conv_bias": layer_norm,
        "extractor_mode": "layer_norm" if layer_norm else "default", "layer_norm_first": layer_norm,
    }  # fmt: skip
    if tuned:
        weights |= {"w2v_encoder.proj.weight": torch.randn(7, 16), "w2v_encoder.proj.bias": torch.randn(7)}
        settings = {"_name": "wav2vec_ctc", "w2v_args": {"model": settings}}
    torch.save({"cfg": {"model": settings}, "model": weights}, path)
    return model, weights


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("tuned", [False, True])
def test_wav2vec2(tmp_path, tuned, layer_norm):
    model, weights = fairseq_wav2vec2(tmp_path / "model.pt", tuned=tuned, layer_norm=layer_norm)
    content = read_pickle("model.pt", (tmp_path / "model.pt").read_bytes())
    if tuned:
        with pytest.raises(CheckpointError, match=r"dict\.ltr\.txt: the letters of the model are not beside it"):
            read_fairseq(tmp_path / "model.pt", content)
        (tmp_path / "dict.ltr.txt").write_text("| 94802\nE 51860\nT 38431\n")
    found = read_fairseq(tmp_path / "model.pt", content)
    built = build_model(found.recipe, found.alphabet)
    for name, tensor in model.state_dict().items():
        assert torch.equal(found.weights[f"encoder.{name}"], tensor), name
    if tuned:
        assert found.alphabet.symbols == (" ", "e", "t")
        built.load_state_dict(found.weights)
        expected = weights["w2v_encoder.proj.weight"][[4, 5, 6, 0]]
        assert torch.equal(built.head.weight, expected)
    else:
        assert "head.weight" not in found.weights and "writes no text" in found.remarks[0]
