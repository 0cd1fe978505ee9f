"""NeMo's Conformers: equal to NeMo's own outputs, back again, and one clear line for each that cannot be read."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from carnelian.checkpoint import load_weights
from carnelian.data.alphabet import ENGLISH, Alphabet, GreedyPieces, load_alphabet
from carnelian.errors import CheckpointError
from carnelian.formats.detect import detect_and_read
from carnelian.formats.nemo.export import write_nemo
from carnelian.formats.safe_loading import read_archive, read_pickle
from carnelian.models.registry import build_model

ENCODER = {"name": "conformer", "channels": 8, "layers": 2, "heads": 2, "kernel": 5}
CAUSAL = {
    "subsampling": "dw_striding",
    "stride": 8,
    "subsampling_channels": 6,
    "causal_subsampling": True,
    "context": [[8, 3], [4, 0]],
    "context_style": "chunked",
    "convolution_context": [4, 0],
    "norm": "layer",
    "shared_biases": True,
}
PIECES = GreedyPieces(["▁[UNK]", "▁un", "▁a", "aff", "able", "▁b", "a", "b"])
NEMO = Path(os.environ.get("NEMO_PYTHON", "/nonexistent"))


def imported(found):
    model = build_model(found.recipe, found.alphabet)
    load_weights(model, found.weights, where="test")
    return model.eval()


def made(encoder, alphabet=None):
    """(model with random weights, its recipe, its alphabet)."""
    recipe = {"features": {"name": "log_mel", "features": 20, "pad_to": 0}, "encoder": encoder}
    alphabet = alphabet or Alphabet(ENGLISH)
    model = build_model(recipe, alphabet).eval()
    generator = torch.Generator().manual_seed(5)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.1 + torch.rand(tensor.shape, generator=generator) * 0.3)
    return model, recipe, alphabet


@pytest.fixture
def archive(tmp_path):
    """`archive(encoder, configure, weigh, ...)`: the path of a small archive with its configuration or weights changed."""

    def make(encoder=ENCODER, configure=None, weigh=None, leave_out=(), alphabet=None):
        path = tmp_path / "model.nemo"
        write_nemo(path, *made(encoder, alphabet))
        members = read_archive(path)
        configuration = yaml.safe_load(members.pop("model_config.yaml"))
        weights = read_pickle("", members.pop("model_weights.ckpt"))
        if configure:
            configure(configuration)
        if weigh:
            weigh(weights)
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        members |= {
            "model_config.yaml": yaml.safe_dump(configuration).encode(),
            "model_weights.ckpt": buffer.getvalue(),
        }
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                if name not in leave_out:
                    member = tarfile.TarInfo(f"./{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return path

    return make


@pytest.mark.parametrize(
    "name", ["conformer_tiny", "fastconformer_tiny", "fastconformer_hybrid_tiny", "fastconformer_local_tiny"]
)
def test_equal_to_nemo(shared, name):
    folder = shared("nemo/oracle")
    oracle, found = np.load(folder / f"{name}.npz"), detect_and_read(folder / f"{name}.nemo")
    model = imported(found)
    audio, samples = torch.tensor(oracle["waveforms"]), torch.tensor(oracle["wave_lens"])
    with torch.no_grad():
        features, frames = model.features(audio, samples)
        assert frames.tolist() == oracle["feature_lens"].tolist()
        assert np.abs(features.numpy() - oracle["features"]).max() < 1e-3
        encoded, steps = model.encoder(features, frames)
        assert steps.tolist() == oracle["encoded_lens"].tolist()
        log_probs, _ = model(audio, samples)
        for row, count in enumerate(steps.tolist()):
            assert np.abs(encoded[row, :, :count].numpy() - oracle["encoded"][row, :, :count]).max() < 1e-3
            assert np.abs(log_probs[row, :count].numpy() - oracle["log_probs"][row, :count]).max() < 1e-3
            alone, _ = model(audio[row : row + 1, : samples[row]], samples[row : row + 1])
            expected = oracle[f"single{row}_log_probs"].reshape(-1, alone.shape[-1])[:count]
            assert np.abs(alone[0, :count].numpy() - expected).max() < 1e-3
    assert any("transducer left out" in remark for remark in found.remarks) == ("hybrid" in name)


@pytest.mark.parametrize("encoder", [ENCODER, ENCODER | CAUSAL, ENCODER | {"outputs": 6, "bias": False, "scale": False},
                                     ENCODER | {"context": [[4, 4]], "context_style": "local"}])  # fmt: skip
@pytest.mark.parametrize("alphabet", [None, PIECES], ids=["letters", "pieces"])
def test_round_trip_is_exact(archive, encoder, alphabet):
    found = detect_and_read(archive(encoder, alphabet=alphabet))
    model, _, ours = made(encoder, alphabet)
    assert found.alphabet == ours
    assert found.recipe["encoder"] == encoder
    assert found.weights.keys() == model.state_dict().keys()
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in model.state_dict().items())


def target(name):
    return lambda configuration: configuration.update(target=f"nemo.collections.asr.models.{name}")


def set_encoder(**settings):
    return lambda configuration: configuration["encoder"].update(settings)


def transducer(configuration):
    configuration.update(decoder={"_target_": "nemo.RNNTDecoder"}, joint={"_target_": "nemo.RNNTJoint"})


FAULTS = {
    "transducer": (transducer, "without a CTC decoder"),
    "canary": (target("EncDecMultiTaskModel"), "prompt"),
    "attention": (set_encoder(self_attention_model="rel_pos_other"), '"rel_pos_other", which is unknown'),
    "absolute positions": (set_encoder(self_attention_model="abs_pos"), "abs_pos"),
    "context style": (set_encoder(att_context_style="other"), "att_context_style"),
    "context": (set_encoder(att_context_size=[[1, 2, 3]]), "att_context_size"),
    "global tokens": (set_encoder(global_tokens=1), "global_tokens"),
    "norm": (set_encoder(conv_norm_type="group_norm4"), "conv_norm_type"),
    "subsampling": (set_encoder(subsampling="stacking"), '"stacking", which is unknown'),
    "more layers": (set_encoder(n_layers=10**9), "weights of 2 layers"),
    "width": (set_encoder(d_model=10**12), "Do weights and configuration belong together"),
    "expansion": (set_encoder(ff_expansion_factor=10**9), "Do weights and configuration belong together"),
    "kernel": (set_encoder(conv_kernel_size=10**9 + 1), "Do weights and configuration belong together"),
    "subsampled channels": (set_encoder(subsampling_conv_channels=10**9), "Do weights and configuration belong"),
    "stride": (set_encoder(subsampling_factor=3), "power of two"),
    "huge stride": (set_encoder(subsampling_factor=2**60), "stride = "),
    "huge context": (set_encoder(att_context_size=[10**30, 0]), "context"),
    "convolution context": (set_encoder(conv_context_size=[10**30, 0]), "convolution_context"),
    "convolution context of text": (set_encoder(conv_context_size="caus"), "conv_context_size"),
    "convolution context of lists": (set_encoder(conv_context_size=[[1], [2]]), "convolution_context"),
    "heads": (set_encoder(n_heads=3), "heads divide"),
    "text for a number": (set_encoder(n_heads="many"), "n_heads"),
    "encoder": (set_encoder(_target_="nemo.SqueezeformerEncoder"), "SqueezeformerEncoder"),
    "tokenizer": (lambda c: c.update(tokenizer={"type": "agg", "langs": {}}), '"agg", which is not read'),
    "no tokenizer": (lambda c: c.update(tokenizer={"type": "bpe", "model_path": "nemo:a"}), "tokenizer a is missing"),
    "features": (set_encoder(feat_in=21), "encoder.feat_in is 21"),
    "reduction": (set_encoder(reduction="pooling", reduction_factor=2), "reduction_factor"),
    "fixed means": (lambda c: c["preprocessor"].update(normalize={"fixed_mean": [0.0]}), "preprocessor.normalize"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_clear_line_for_each_fault(archive, fault):
    configure, expected = FAULTS[fault]
    with pytest.raises(CheckpointError) as caught:
        imported(detect_and_read(archive(configure=configure)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "weigh,expected",
    [
        (lambda w: w.pop("encoder.layers.1.norm_out.weight"), "layers.1.norm_out.weight"),
        (lambda w: w.update({"encoder.layers.0.adapter.weight": torch.ones(2)}), "adapter"),
        (lambda w: w.update({"prompt_kernel.0.weight": torch.ones(2)}), "prompts"),
        (lambda w: w.update({"other.weight": torch.ones(2)}), '"other.weight"'),
        (lambda w: w.pop("decoder.decoder_layers.0.bias"), "bias is missing"),
        (lambda w: w.update({"decoder.decoder_layers.0.weight": torch.ones(3, 8, 1)}), "symbols and a blank"),
    ],
)
def test_weights_that_do_not_fit_are_named(archive, weigh, expected):
    with pytest.raises(CheckpointError, match=expected):
        imported(detect_and_read(archive(weigh=weigh)))


def test_lightning_checkpoint_with_the_tokenizer_beside_it(archive, tmp_path):
    members = read_archive(archive(alphabet=PIECES))
    configuration = yaml.safe_load(members["model_config.yaml"])
    content = {
        "state_dict": read_pickle("", members["model_weights.ckpt"]),
        "hyper_parameters": {"cfg": configuration},
        "pytorch-lightning_version": "2.4",
    }
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"vocab\.txt is missing"):
        detect_and_read(tmp_path / "last.ckpt")
    (tmp_path / "vocab.txt").write_bytes(members["vocab.txt"])
    assert detect_and_read(tmp_path / "last.ckpt").alphabet == PIECES


def test_pieces_of_bert_form():
    assert [PIECES.symbols[index] for index in PIECES.encode("unaffable ba")] == ["▁un", "aff", "able", "▁b", "a"]
    assert PIECES.decode(PIECES.encode("unaffable ba")) == "unaffable ba"
    assert PIECES.unknown("unaffable bazun") == set("zun")
    assert [PIECES.symbols[index] for index in PIECES.encode("za xaff")] == ["▁a", "▁a"]
    assert PIECES.unknown("za xaff") == set("zxf")
    assert load_alphabet(PIECES.saved()) == PIECES


SCRIPT = """
import sys, numpy as np, torch
from nemo.collections.asr.models import ASRModel
model = ASRModel.restore_from(sys.argv[1], map_location="cpu").eval()
model.preprocessor.featurizer.dither = 0.0
audio = torch.from_numpy(np.load(sys.argv[2]))
with torch.no_grad():
    log_probs, steps, _ = model(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))
np.save(sys.argv[3], log_probs[0, : int(steps[0])].numpy())
"""


@pytest.mark.slow
@pytest.mark.skipif(not NEMO.exists(), reason="set NEMO_PYTHON to a Python that has nemo_toolkit[asr]")
@pytest.mark.parametrize("encoder", [ENCODER, ENCODER | CAUSAL], ids=["usual", "causal"])
def test_nemo_loads_what_is_exported(archive, tmp_path, encoder):
    path = archive(encoder)
    audio = np.random.default_rng(0).normal(size=(1, 20_000)).astype(np.float32) / 10
    np.save(tmp_path / "audio.npy", audio)
    command = [NEMO, "-c", SCRIPT, path, tmp_path / "audio.npy", tmp_path / "log_probs.npy"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=300)
    model = made(encoder)[0]
    with torch.no_grad():
        log_probs, (steps,) = model(torch.from_numpy(audio), torch.tensor([20_000]))
    assert np.abs(log_probs[0, :steps].numpy() - np.load(tmp_path / "log_probs.npy")).max() < 1e-3
