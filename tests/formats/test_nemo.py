"""NeMo's archives: equal to NeMo's own outputs, and one clear line for each that cannot be read."""

import io
import re
import sys
import tarfile
import types

import numpy as np
import pytest
import torch
import yaml

from carnelian.checkpoint import load_weights
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.errors import CheckpointError
from carnelian.formats.detect import detect_and_read
from carnelian.formats.nemo.checkpoint import read_lightning, read_nemo
from carnelian.formats.nemo.export import write_nemo
from carnelian.formats.nemo.pair import read_pair
from carnelian.formats.safe_loading import read_archive, read_file, read_pickle
from carnelian.models.registry import build_model

RECIPE = {
    "features": {"name": "log_mel", "features": 8},
    "encoder": {
        "name": "convolutional",
        "blocks": [
            {"channels": 6, "kernel": 5, "stride": 2, "separable": True},
            {"channels": 6, "kernel": 5, "repeat": 2, "residual": "dense", "separable": True},
            {"channels": 7, "kernel": 3, "repeat": 2, "residual": "dense"},
            {
                "channels": 8,
                "kernel": 3,
                "repeat": 2,
                "residual": "plain",
                "separable": True,
                "groups": 2,
                "excitation": 4,
            },
            {"channels": 8, "kernel": 3, "dilation": 2, "dropout": 0.1},
            {"channels": 9, "kernel": 1},
        ],
    },
}


def random_model(recipe=RECIPE, alphabet=ENGLISH):
    """A model whose weights and statistics are all different from one another."""
    generator = torch.Generator().manual_seed(3)
    model = build_model(recipe, Alphabet(alphabet)).eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model


def imported(found):
    model = build_model(found.recipe, found.alphabet)
    load_weights(model, found.weights, where="test")
    return model.eval()


@pytest.fixture
def archive(tmp_path):
    """`archive(change_configuration, change_weights)`: the path of an archive with that changed."""
    path = tmp_path / "model.nemo"
    write_nemo(path, random_model(), RECIPE, Alphabet(ENGLISH))

    def make(configure=None, weigh=None, leave_out=(), mode="w"):
        members = read_archive(path)
        configuration = yaml.safe_load(members["model_config.yaml"])
        weights = read_pickle("", members["model_weights.ckpt"])
        configuration = (configure(configuration) if configure else None) or configuration
        if weigh:
            weigh(weights)
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        with tarfile.open(path, mode) as tar:
            for name, data in (
                ("model_config.yaml", yaml.safe_dump(configuration).encode()),
                ("model_weights.ckpt", buffer.getvalue()),
            ):
                if name not in leave_out:
                    member = tarfile.TarInfo(f"./{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return path

    return make


def refused(function, *arguments) -> str:
    with pytest.raises(CheckpointError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["quartznet_tiny", "jasper_dr_small"])
def test_equal_to_nemo(shared, name):
    found = read_nemo(shared("nemo/oracle") / f"{name}.nemo")
    expected = np.load(shared("nemo/oracle") / f"{name}.npz")
    model = imported(found)
    with torch.no_grad():
        log_probs, steps = model(torch.from_numpy(expected["waveforms"]), torch.from_numpy(expected["wave_lens"]))
    assert steps.tolist() == expected["enc_lens_pad16"].tolist()
    for row, count in enumerate(steps.tolist()):
        np.testing.assert_allclose(log_probs[row, :count], expected["logprobs_pad16"][row, :count], atol=1e-3)
    texts = [
        "".join(found.alphabet.symbols[i] if i < 28 else "" for i in collapsed(p[:c]))
        for p, c in zip(log_probs.argmax(2), steps)
    ]
    assert texts == expected["greedy_text_pad16"].tolist()


def collapsed(path):
    path = path.tolist()
    return [symbol for index, symbol in enumerate(path) if index == 0 or symbol != path[index - 1]]


@pytest.mark.parametrize("name", ["vad_marblenet", "vad_multilingual_marblenet", "vad_telephony_marblenet"])
def test_voice_activity_detectors_are_named(shared, name):
    message = refused(read_nemo, shared("nemo") / f"{name}.nemo")
    assert "a voice activity detector" in message and "encoder of 6 blocks is whole" in message


def test_decoder_alone(shared):
    path = shared("nemo") / "JasperDecoderForCTC-STEP-243800.pt"
    message = refused(read_pair, path, read_pickle(str(path), read_file(path)), None)
    assert "the decoder alone" in message and "JasperEncoder-STEP-243800.pt" in message


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_round_trip_is_exact(archive, mode):
    found = read_nemo(archive(mode=mode))
    assert found.alphabet == Alphabet(ENGLISH)
    assert found.recipe["encoder"]["blocks"] == RECIPE["encoder"]["blocks"]
    for name, tensor in random_model().state_dict().items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=0, atol=0)


KERNEL = "encoder.encoder.1.mconv.5.conv.weight"
FAULTS = {
    "shape": (
        "weigh",
        lambda w: w.update({KERNEL: torch.zeros(6, 1, 7)}),
        r"1\.conv\.5\.weight is of shape \(6, 1, 7\)",
    ),
    "missing": ("weigh", lambda w: w.pop(KERNEL), r"1\.conv\.5\.weight is missing"),
    "left over": (
        "weigh",
        lambda w: w.update({"encoder.encoder.9.mconv.0.conv.weight": torch.zeros(1)}),
        r"9\.conv\.0\.weight \(1 such\)",
    ),
    "module": ("weigh", lambda w: w.update({"joint.enc.weight": torch.zeros(1)}), r'"joint\.enc\.weight", of a module'),
    "decoder": (
        "weigh",
        lambda w: w.update({"decoder.decoder_layers.0.bias": torch.zeros(5)}),
        r"bias is of shape \(5,\)",
    ),
    "no decoder": ("weigh", lambda w: w.pop("decoder.decoder_layers.0.bias"), r"decoder's bias is missing"),
    "encoder kind": (
        "configure",
        lambda c: c["encoder"].update(_target_="x.SqueezeformerEncoder"),
        r'"SqueezeformerEncoder", which',
    ),
    "decoder kind": (
        "configure",
        lambda c: c["decoder"].update(_target_="x.RNNTDecoder"),
        r"a transducer .* without a CTC decoder",
    ),
    "setting": ("configure", lambda c: c["encoder"]["jasper"][1].update(heads=4), r"encoder\.jasper\.1\.heads is 4"),
    "type": (
        "configure",
        lambda c: c["encoder"]["jasper"][1].update(kernel="x"),
        r"jasper\.1\.kernel is 'x', expected int",
    ),
    "no blocks": ("configure", lambda c: c["encoder"].update(jasper=[]), r"describes no layers"),
    "size": (
        "configure",
        lambda c: c["encoder"]["jasper"][0].update(filters=10**12),
        r"asks for \(1000000000000, 8, 1\)",
    ),
    "table": ("configure", lambda c: c.update(decoder=None), r"no table 'decoder'"),
    "window": (
        "configure",
        lambda c: c["preprocessor"].update(window="blackman"),
        r"preprocessor\.window is 'blackman'",
    ),
    "kind": ("configure", lambda c: ["a list"], r"not a configuration but list"),
    "symbols": (
        "configure",
        lambda c: c.update(labels=None) or c["decoder"].update(vocabulary=None),
        r"neither decoder\.vocabulary nor labels",
    ),
    "repeats": ("configure", lambda c: c["encoder"]["jasper"][1].update(repeat=10**9), r"no layers, or too many"),
    "windows": (
        "configure",
        lambda c: c["preprocessor"].update(window_size=1e9),
        r"windows of 1000000000\.0 s every 0\.01 s",
    ),
    "bands": (
        "configure",
        lambda c: c["preprocessor"].update(features=10**9),
        r"preprocessor\.features is 1000000000, encoder",
    ),
    "no weights": ("leave_out", ["model_weights.ckpt"], r"has no member model_weights\.ckpt"),
    "no configuration": ("leave_out", ["model_config.yaml"], r"has no member model_config\.yaml"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_clear_line_for_each_fault(archive, fault):
    where, change, expected = FAULTS[fault]
    message = refused(read_nemo, archive(**{where: change}))
    assert re.search(expected, message), message


def test_aliases_of_aliases_end(archive):
    def laugh(configuration):
        laughs = ["ha"] * 9
        for _ in range(9):
            laughs = [laughs] * 9
        configuration["labels"] = configuration["decoder"]["vocabulary"] = laughs

    assert "so its symbols are unknown" in refused(read_nemo, archive(configure=laugh))


@pytest.mark.parametrize(
    "version, count, edge",
    [
        ("3.0.0", "floor", "zeros"),
        ("2.4.0", "floor+1", "reflect"),
        ("2.5.0", "floor", "zeros"),
        (None, "floor+1", "reflect"),
        ("0.11.0", "ceil", "reflect"),
    ],
)
def test_frames_are_counted_as_the_version_does(archive, version, count, edge):
    features = read_nemo(
        archive(configure=lambda c: c.update(nemo_version=version) if version else c.pop("nemo_version") and None)
    ).recipe["features"]
    assert (features["frame_count"], features["edge"]) == (count, edge)


def test_settings_as_older_versions_wrote_them(archive):
    def old(configuration):
        for name in ("encoder", "decoder", "preprocessor"):
            table = configuration[name]
            configuration[name] = {"cls": table.pop("_target_"), "params": table}
        configuration["decoder"]["params"]["vocabulary"] = "${labels}"
        configuration["labels"] = [False if s == "n" else True if s == "y" else s for s in configuration["labels"]]

    assert read_nemo(archive(configure=old)).alphabet == Alphabet(ENGLISH)


def test_lightning_checkpoint(archive, tmp_path):
    members = read_archive(archive())
    configuration = yaml.safe_load(members["model_config.yaml"])
    content = {"state_dict": read_pickle("", members["model_weights.ckpt"]), "hyper_parameters": {"cfg": configuration}}
    found = read_lightning(tmp_path / "x.ckpt", content)
    torch.testing.assert_close(found.weights["head.bias"], random_model().head.bias.detach())
    assert "without NeMo's configuration" in refused(
        read_lightning, tmp_path / "x.ckpt", {**content, "hyper_parameters": {}}
    )


OLD_CONFIGURATION = """
model: Jasper
sample_rate: 16000
AudioToMelSpectrogramPreprocessor: {window_size: 0.02, window_stride: 0.01, n_fft: 512, features: 8, stft_conv: true}
labels: [" ", a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, "'"]
JasperEncoder:
  feat_in: 8
  activation: relu
  conv_mask: true
  jasper:
  - {filters: 6, repeat: 1, kernel: [5], stride: [2], dilation: [1], dropout: 0.0, residual: false, separable: true}
  - {filters: 6, repeat: 2, kernel: [5], stride: [1], dilation: [1], dropout: 0.0, residual: true, residual_dense: true,
     separable: true}
  - {filters: 7, repeat: 2, kernel: [3], stride: [1], dilation: [1], dropout: 0.0, residual: true, residual_dense: true}
  - {filters: 8, repeat: 2, kernel: [3], stride: [1], dilation: [1], dropout: 0.0, residual: true, separable: true, groups: 2,
     se: true, se_reduction_ratio: 4}
  - {filters: 8, repeat: 1, kernel: [3], stride: [1], dilation: [2], dropout: 0.1, residual: false}
  - {filters: 9, repeat: 1, kernel: [1], stride: [1], dilation: [1], dropout: 0.0, residual: false}
"""


def test_lightning_checkpoint_with_settings_of_omegaconf(archive, tmp_path, monkeypatch):
    """Settings as OmegaConf pickles them, by classes that are not there when they are read."""
    kinds = {}
    for module, name in [
        ("omegaconf.dictconfig", "DictConfig"),
        ("omegaconf.listconfig", "ListConfig"),
        ("omegaconf.nodes", "AnyNode"),
    ]:
        kinds[name] = type(name, (), {"__module__": module})
        monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], name, kinds[name])

    def node(value):
        made = kinds[{dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")]()
        if isinstance(value, dict):
            made._content = {key: node(part) for key, part in value.items()}
        elif isinstance(value, list):
            made._content = [node(part) for part in value]
        else:
            made._val = value
        return made

    members = read_archive(archive())
    settings = node({"cfg": yaml.safe_load(members["model_config.yaml"])})
    content = {"state_dict": read_pickle("", members["model_weights.ckpt"]), "hyper_parameters": settings}
    torch.save(content, tmp_path / "x.ckpt")
    monkeypatch.undo()
    found = detect_and_read(tmp_path / "x.ckpt")
    assert found.recipe["encoder"]["blocks"] == RECIPE["encoder"]["blocks"] and found.alphabet == Alphabet(ENGLISH)


@pytest.mark.parametrize("asked", ["encoder", "decoder"])
def test_pair_of_old_files_from_either_half(archive, tmp_path, asked):
    weights = read_pickle("", read_archive(archive())["model_weights.ckpt"])
    paths = {"encoder": tmp_path / "JasperEncoder-STEP-7.pt", "decoder": tmp_path / "JasperDecoderForCTC-STEP-7.pt"}
    for half, path in paths.items():
        prefix = f"{half}."
        torch.save(
            {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}, path
        )
    path = paths[asked]
    found = read_pair(path, read_pickle(str(path), read_file(path)), None)
    rows = [{key: value for key, value in row.items() if key != "dropout"} for row in RECIPE["encoder"]["blocks"]]
    assert found.recipe["encoder"]["blocks"] == rows and found.recipe["features"]["frame_count"] == "ceil"
    for name, tensor in random_model().state_dict().items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=0, atol=0)
    assert "no configuration" in found.remarks[0]
    (tmp_path / "config.yaml").write_text(OLD_CONFIGURATION)
    found = detect_and_read(path, config=tmp_path / "config.yaml")
    assert (
        found.recipe["encoder"]["blocks"] == RECIPE["encoder"]["blocks"] and found.recipe["features"]["window"] == 0.02
    )
    torch.testing.assert_close(found.weights["head.bias"], random_model().head.bias.detach())


def test_planes_cannot_be_exported(tmp_path):
    planes = [{"channels": 2, "kernel": [3, 3], "stride": [2, 2]}]
    recipe = {**RECIPE, "encoder": {**RECIPE["encoder"], "conv2d": planes}}
    model = random_model(recipe)
    with pytest.raises(CheckpointError, match="begins with 2-D convolutions"):
        write_nemo(tmp_path / "model.nemo", model, recipe, Alphabet(ENGLISH))
    assert not (tmp_path / "model.nemo").exists()
