"""Folders of Hugging Face: equal to what transformers compute, where they are installed."""

import json
import sys

import pytest
import torch

from carnelian.checkpoint import load_weights, save_tensors
from carnelian.data.alphabet import WordPieces
from carnelian.errors import CheckpointError
from carnelian.formats.detect import detect_and_read
from carnelian.formats.hugging_face import PARAKEET_NAMES, characters_of, sentencepiece_model
from carnelian.models.encoders.conformer import conformer
from carnelian.models.registry import build_model
from carnelian.models.time_stretch import time_stretch

VOCABULARY = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLU'"])}


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers are not installed")


def imported(folder):
    found = detect_and_read(folder)
    model = build_model(found.recipe, found.alphabet)
    load_weights(model, found.weights, where=folder)
    return model.eval(), found


LAYOUTS = {
    "base": {},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "odd": {"num_conv_pos_embeddings": 15, "num_attention_heads": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_wav2vec2_equals_transformers(transformers, tmp_path, kind, layout):
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4),
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "pad_token_id": 0,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**settings | LAYOUTS[layout])
    theirs = getattr(transformers, f"{kind}ForCTC")(config).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY))
    model, found = imported(tmp_path)
    assert "".join(found.alphabet.symbols) == " etaonihsrdlu'"
    audio, lengths = torch.randn(2, 9000), torch.tensor([9000, 5000])
    with torch.no_grad():
        log_probs, steps = model(audio, lengths)
        for row, length in enumerate(lengths.tolist()):
            sound = audio[row, :length]
            sound = (sound - sound.mean()) / (sound.var(unbiased=False) + 1e-7).sqrt()
            logits = theirs(sound[None]).logits[0]
            expected = logits[:, [*range(4, len(VOCABULARY)), 0]].log_softmax(-1)
            assert steps[row] == len(expected)
            torch.testing.assert_close(log_probs[row, : len(expected)], expected, atol=1e-4, rtol=1e-4)
        longer, more = model.log_probs(*time_stretch(*model.features(audio, lengths), 1.2))
        alone, [count] = model.log_probs(*time_stretch(*model.features(audio[1:, :5000], lengths[1:]), 1.2))
        assert count == more[1] > steps[1]
        torch.testing.assert_close(alone[0, :count], longer[1, :count], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_parakeet(transformers, tmp_path):
    torch.manual_seed(0)
    encoder = transformers.ParakeetEncoderConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_mel_bins=80,
        subsampling_conv_channels=8, max_position_embeddings=500,
    )  # fmt: skip
    pieces = {"<unk>": 0, "▁": 1, "t": 2, "h": 3, "e": 4, "▁t": 5, "he": 6, "▁the": 7}
    config = transformers.ParakeetCTCConfig(
        encoder_config=encoder, vocab_size=len(pieces) + 1, pad_token_id=len(pieces)
    )
    theirs = transformers.ParakeetForCTC(config).eval()
    theirs.save_pretrained(tmp_path)
    model_of_pieces = {"type": "BPE", "vocab": pieces, "merges": [["▁", "t"], ["h", "e"], ["▁t", "he"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model_of_pieces}))
    model, found = imported(tmp_path)
    assert found.alphabet.encode("the the") == [7, 7]
    extract = transformers.ParakeetFeatureExtractor()
    audio, lengths = 0.1 * torch.randn(2, 24_000), torch.tensor([24_000, 17_000])
    rows = [audio[row, :length].numpy() for row, length in enumerate(lengths.tolist())]
    given = extract(rows, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        log_probs, steps = model(audio, lengths)
        expected = theirs(**given).logits.log_softmax(-1)
    for row, count in enumerate(steps.tolist()):
        torch.testing.assert_close(log_probs[row, :count], expected[row, :count], atol=1e-3, rtol=1e-3)


def test_parakeet_without_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    encoder = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_kernel_size": 5,
        "subsampling_conv_channels": 8,
        "scale_input": False,
    }
    ours = conformer(
        80, channels=16, layers=2, heads=2, expansion=2, kernel=5, subsampling="dw_striding", stride=8,
        subsampling_channels=8, scale=False,
    )  # fmt: skip
    weights = {f"encoder.{name}": tensor for name, tensor in ours.state_dict().items()}
    weights |= {"ctc_head.weight": torch.randn(9, 16, 1), "ctc_head.bias": torch.randn(9)}
    theirs = {}
    for name, tensor in weights.items():
        for other, own in PARAKEET_NAMES.items():
            name = name.replace(own, other)
        theirs[name] = tensor[..., None] if "pointwise_conv" in name and name.endswith("weight") else tensor
    config = {"architectures": ["ParakeetForCTC"], "encoder_config": encoder, "pad_token_id": 0}
    pieces = [["<pad>", 0.0], ["<unk>", 0.0], *([f"b{index}", -2.0] for index in range(7))]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": pieces}}))
    parts = {"a": list(theirs)[:9], "b": list(theirs)[9:]}
    for part, names in parts.items():
        save_tensors(tmp_path / f"{part}.safetensors", {name: theirs[name] for name in names}, {})
    index = {"weight_map": {name: f"{part}.safetensors" for part, names in parts.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, found = imported(tmp_path)
    assert found.remarks == ()
    assert all(torch.equal(model.encoder.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    assert torch.equal(model.head.bias, weights["ctc_head.bias"].roll(-1))  # the blank stands last here
    for change, expected in (
        ({"num_hidden_layers": 10**9}, "weights of 2 layers"),
        ({"hidden_size": 10**9, "intermediate_size": 2 * 10**9}, "is of shape"),
        ({"num_attention_heads": 3}, "heads divide"),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_config": encoder | change}))
        with pytest.raises(CheckpointError, match=expected):
            detect_and_read(tmp_path)


def test_a_sentencepiece_model_from_pieces_splits_as_they_do():
    scored = [
        ("<unk>", 0.0, 2),
        ("▁", -9.0, 1),
        ("a", -9.0, 1),
        ("b", -9.0, 1),
        ("ab", -1.0, 1),
        ("▁ab", -2.0, 1),
        ("é" * 70, -3.0, 1),
    ]
    for unigram in (False, True):
        alphabet = WordPieces(sentencepiece_model(scored, unigram=unigram))
        assert [alphabet.symbols[symbol] for symbol in alphabet.encode("ab b")] == ["▁ab", "▁", "b"]
        assert alphabet.decode(alphabet.encode("ab b")) == "ab b" and len(alphabet) == 7


def test_one_clear_line_for_others(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        detect_and_read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        detect_and_read(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(CheckpointError, match="a BertModel, which is unknown"):
        detect_and_read(tmp_path)
    (tmp_path / "vocab.json").write_text('{"eng": {"a": 0}}')
    with pytest.raises(CheckpointError, match="several languages"):
        characters_of(tmp_path / "vocab.json", 0, "|")
