"""Exported models: the same log-probabilities as PyTorch, the graph that is fast, int8, and what is refused."""

import json
import subprocess
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest
import soundfile
import torch

from carnelian.checkpoint import Checkpoint, load_model, save_checkpoint
from carnelian.commands import export_onnx as command
from carnelian.data.alphabet import Alphabet
from carnelian.decoding.settings import DecodingConfig
from carnelian.errors import CarnelianError, CheckpointError
from carnelian.inference.onnx_engine import OnnxEngine
from carnelian.inference.processor import processor_facts
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.torch_engine import TorchEngine
from carnelian.models.registry import build_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from carnelian.inference.export.calibrate import divergence  # noqa: E402
from carnelian.inference.export.int8 import Quantizer, Scheme  # noqa: E402
from carnelian.inference.export.model import onnx_model  # noqa: E402

LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
COUNTS = (16000 * 3 - 37, 16000, 9000, 160, 0)
FRONT_ENDS = [
    {"name": "log_mel"},
    {"name": "log_mel", "features": 80, "window": 0.025, "edge": "reflect", "frame_count": "floor+1"},
    {"name": "log_mel", "sample_rate": 8000, "window": 0.0201, "frame_count": "ceil", "normalize": "none"},
    {"name": "mfcc", "normalize": "all_features"},
    {"name": "spectrogram", "features": 96},
]
ENCODERS = {
    "quartznet": {"name": "quartznet", "blocks": 5, "repeat": 2, "width": 0.125},
    "grouped": {"name": "quartznet", "blocks": 5, "repeat": 2, "width": 0.125, "groups": 2},
    "lookahead": {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.125, "lookahead": 8},
    "jasper": {"name": "jasper", "blocks": 5, "repeat": 2, "width": 0.125},
    "densernet": {"name": "jasper", "blocks": 5, "repeat": 2, "width": 0.125, "residual": "densernet"},
    "layer": {"name": "jasper", "blocks": 5, "repeat": 1, "width": 0.125, "norm": "layer", "activation": "glu"},
    "weight": {"name": "jasper", "blocks": 5, "repeat": 1, "width": 0.125, "norm": "weight", "activation": "swish"},
    "citrinet": {"name": "citrinet", "channels": 64, "last": 64, "repeat": 2, "blocks": 2},
    "wave2letter": {"name": "wave2letter", "width": 0.125},
    "conformer": {"name": "conformer", "channels": 32, "layers": 2, "kernel": 7},
    "conformer, shared biases": {
        "name": "conformer",
        "channels": 32,
        "layers": 2,
        "norm": "layer",
        "shared_biases": True,
        "bias": False,
        "outputs": 24,
        "scale": False,
        "context": [[9, 4]],
        "convolution_context": [20, 10],
    },
    "fast conformer, chunked": {
        "name": "conformer",
        "channels": 32,
        "layers": 2,
        "kernel": 9,
        "subsampling": "dw_striding",
        "stride": 8,
        "subsampling_channels": 12,
        "causal_subsampling": True,
        "convolution_context": [8, 0],
        "context": [[6, 2]],
        "context_style": "chunked",
    },
    "conformer, local": {
        "name": "conformer",
        "channels": 32,
        "layers": 2,
        "kernel": 7,
        "context": [[7, 3]],
        "context_style": "local",
    },
    "deepspeech2": {"name": "deepspeech2", "width": 0.03},
    "deepspeech2 forwards": {"name": "deepspeech2", "size": "medium", "width": 0.03},
    "conv2d": {
        "name": "convolutional",
        "conv2d": [{"channels": 16, "kernel": [5, 5], "stride": [2, 2]}, {"channels": 16, "kernel": [3, 3]}],
        "blocks": [{"channels": 64, "kernel": 5, "separable": True, "residual": "plain", "repeat": 2}],
    },
}


def checkpoint_of(encoder, features=FRONT_ENDS[0], **more):
    """A model with random weights and batch norm statistics, and its checkpoint."""
    torch.manual_seed(0)
    recipe = {"features": features, "encoder": encoder, **more}
    model = build_model(recipe, LETTERS).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model, Checkpoint(model.state_dict(), LETTERS, recipe)


def sounds(counts=COUNTS, rate=16000):
    rng = np.random.default_rng(0)
    swells = (np.abs(np.sin(np.arange(count) / rate * 3)) for count in counts)
    return [(0.1 * swell * rng.standard_normal(len(swell))).astype(np.float32) for swell in swells]


def exported(encoder, features=FRONT_ENDS[0], **more):
    model, checkpoint = checkpoint_of(encoder, features, **more)
    return model, onnx_model(model, checkpoint)


def optimized_nodes(proto, tmp_path):
    """The nodes that ONNX Runtime runs for one recording at a time."""
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 1)
    options.log_severity_level, options.optimized_model_filepath = 4, str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(onnx.load(tmp_path / "optimized.onnx").graph.node)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_each_encoder_gives_what_pytorch_gives_at_every_length(encoder):
    model, proto = exported(encoder)
    engine = OnnxEngine(proto.SerializeToString(), threads=2)
    for stretch in (1.0, 1.3):
        [expected] = TorchEngine(model, LETTERS).emissions(sounds(), [stretch])
        [found] = engine.emissions(sounds(), [stretch])
        for each, wanted in zip(found, expected):
            assert each.seconds_per_step == wanted.seconds_per_step
            np.testing.assert_allclose(each.log_probs, wanted.log_probs, atol=1e-4)


@pytest.mark.parametrize("features", FRONT_ENDS, ids=lambda features: str(list(features.values())[:3]))
def test_each_front_end_gives_what_pytorch_gives(features):
    model, proto = exported(ENCODERS["conv2d"], features)
    engine, rate = OnnxEngine(proto.SerializeToString()), features.get("sample_rate", 16000)
    assert engine.sample_rate == rate
    for audio in sounds(rate=rate)[:-1]:
        [[expected]] = TorchEngine(model, LETTERS).emissions([audio], [1.0])
        [found] = engine.log_probs([audio])
        np.testing.assert_allclose(found, expected.log_probs, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["quartznet", "citrinet", "layer", "conv2d", "deepspeech2", "conformer", "conformer, local"]
)
def test_a_batch_with_padding_gives_each_row_as_alone(name):
    """Whoever runs the file with a batch of several rows gets what each row gives by itself, in PyTorch too."""
    model, proto = exported(ENCODERS[name])
    audio = sounds()[:3]
    padded = np.stack([np.pad(each, (0, len(audio[0]) + 500 - len(each))) for each in audio])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    lengths = np.array(list(map(len, audio)))
    log_probs, steps = session.run(["log_probs", "steps"], {"audio": padded, "audio_lengths": lengths})
    for row, each in enumerate(audio):
        [[expected]] = TorchEngine(model, LETTERS).emissions([each], [1.0])
        assert steps[row] == len(expected.log_probs)
        np.testing.assert_allclose(log_probs[row, : steps[row]], expected.log_probs, atol=1e-4)
    [single], _ = session.run(["log_probs", "steps"], {"audio": padded[:1], "audio_lengths": lengths[:1]})
    np.testing.assert_allclose(single, log_probs[0, : steps[0]], atol=1e-5)


def test_an_encoder_that_does_not_mask_gets_the_padding_it_was_trained_with():
    model, proto = exported({**ENCODERS["jasper"], "mask": False})
    audio = sounds()[0]
    [[expected]] = TorchEngine(model, LETTERS).emissions([audio], [1.0])
    np.testing.assert_allclose(
        OnnxEngine(proto.SerializeToString()).log_probs([audio])[0], expected.log_probs, atol=1e-4
    )


@pytest.mark.parametrize("name", ["quartznet", "jasper", "citrinet", "wave2letter"])
def test_convolutions_are_those_that_the_runtime_has_fast_kernels_for(name, tmp_path):
    _, proto = exported(ENCODERS[name])
    shapes = {each.name: each.dims for each in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert convolutions and all(len(shapes[node.input[1]]) == 4 for node in convolutions)
    assert not [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
    nodes = optimized_nodes(proto, tmp_path)
    if processor_facts()[1][:1] == ["AVX2"]:
        blocked = [node for node in nodes if node.op_type == "Conv" and node.domain == "com.microsoft.nchwc"]
        assert len(blocked) == len(convolutions)
    masks = [node for node in nodes if node.op_type == "If" and node.name != "front_end/If"]
    assert len(masks) <= 1  # the time stretch alone


def test_int8_runs_in_bytes_and_stays_close(tmp_path):
    _, proto = exported(ENCODERS["quartznet"])
    quantizer = Quantizer(proto)
    ranges = quantizer.ranges(sounds()[:3])
    expected = OnnxEngine(proto.SerializeToString()).log_probs(sounds()[:3])
    for activations in ("uint8", "int8"):
        for calibration in ("minmax", "percentile"):
            quantized = quantizer.quantized(Scheme(activations, calibration), ranges)
            engine = OnnxEngine(quantized.SerializeToString())
            assert engine.precision == "int8" and engine.alphabet == LETTERS
            assert 0 < divergence(expected, engine.log_probs(sounds()[:3])) < 0.01
            in_bytes = [node for node in optimized_nodes(quantized, tmp_path) if node.op_type == "QLinearConv"]
            if activations == "uint8":
                assert len(in_bytes) == len(quantizer.convolutions)
    names = [node.name for node in quantizer.convolutions]
    assert not any("block_0/convolution_0/depthwise" in name or "head" in name for name in names)
    none = quantizer.quantized(Scheme("uint8", "minmax"), ranges, names)
    np.testing.assert_allclose(OnnxEngine(none.SerializeToString()).log_probs(sounds()[:1])[0], expected[0], atol=1e-5)


def test_seven_bit_weights_stay_in_seven_bits():
    _, proto = exported(ENCODERS["quartznet"])
    quantizer = Quantizer(proto)
    quantized = quantizer.quantized(Scheme("uint8", "minmax", reduce_range=True), quantizer.ranges(sounds()[:1]))
    weights = [
        onnx.numpy_helper.to_array(each) for each in quantized.graph.initializer if each.name.endswith("integers")
    ]
    bytes_only = [each for each in weights if each.dtype == np.int8]
    assert bytes_only and all(np.abs(each.astype(int)).max() <= 63 for each in bytes_only)


@pytest.fixture()
def saved(tmp_path):
    """A checkpoint on disk."""
    _, checkpoint = checkpoint_of(ENCODERS["quartznet"], time_stretches=[1.0, 1.1])
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint)
    return path


def test_one_recognizer_for_both(saved, tmp_path):
    command.onnx(saved, tmp_path / "model.onnx")
    first, second = Recognizer.load(saved, device="cpu"), Recognizer.load(tmp_path / "model.onnx")
    assert second.time_stretches == first.time_stretches == (1.0, 1.1)
    assert second.alphabet == first.alphabet and second.sample_rate == first.sample_rate
    for audio in sounds()[:3]:
        one, other = first(audio), second(audio)
        assert one.text == other.text and one.duration == other.duration
        assert [word[:3] for word in map(astuple, one.words)] == [word[:3] for word in map(astuple, other.words)]
    with pytest.raises(CarnelianError, match=r"runs on the CPU"):
        Recognizer.load(tmp_path / "model.onnx", device="cuda")
    with pytest.raises(CarnelianError, match=r"exists already.*--overwrite"):
        command.onnx(saved, tmp_path / "model.onnx")


def test_the_proof_tells_errors_and_speed_of_both(saved, tmp_path, capsys):
    """With texts that the checkpoint itself wrote, neither makes an error; without recordings there are no error rates."""
    with open(tmp_path / "dev.jsonl", "w") as manifest:
        for number, audio in enumerate(sounds()[:3]):
            path = tmp_path / f"{number}.wav"
            soundfile.write(path, audio, 16000, subtype="FLOAT")
            text = Recognizer.load(saved, device="cpu", decoding=DecodingConfig(time_stretches=(1.0,)))(path).text
            line = {"audio_filepath": str(path), "duration": len(audio) / 16000, "text": text}
            manifest.write(json.dumps(line) + "\n")
    command.onnx(saved, tmp_path / "model.onnx", calibrate=tmp_path / "dev.jsonl")
    printed = capsys.readouterr()
    rows = [line.split("│") for line in printed.out.splitlines() + printed.err.splitlines() if line.count("│") == 5]
    rates = {row[1].strip(): row[3].strip() for row in rows if row[1].strip()}
    assert rates == {"checkpoint": "0.00", "fp32": "0.00"}
    assert all(0 < float(row[4]) < 10 for row in rows if row[1].strip())
    assert "windows of 60 s" in printed.err
    command.onnx(saved, tmp_path / "model.onnx", overwrite=True)
    assert "0.00 │" not in capsys.readouterr().out


def test_batch_norm_folded_at_load_changes_nothing(saved):
    model, _ = load_model(saved)
    [expected] = TorchEngine(model, LETTERS).emissions(sounds(), [1.0])
    engine = Recognizer.load(saved, device="cpu").engine
    assert not [module for module in engine.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for found, wanted in zip(engine.emissions(sounds(), [1.0])[0], expected):
        np.testing.assert_allclose(found.log_probs, wanted.log_probs, atol=1e-4)


def test_what_is_refused(saved, tmp_path, monkeypatch):
    with pytest.raises(CarnelianError, match=r"int8 needs recordings with their text"):
        command.onnx(saved, tmp_path / "model.onnx", precision="int8")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CarnelianError, match=r"no utterance with text"):
        command.onnx(saved, tmp_path / "model.onnx", precision="int8", calibrate=tmp_path / "empty.jsonl")
    with pytest.raises(CarnelianError, match=r'precision "int4"'):
        command.onnx(saved, tmp_path / "model.onnx", precision="int4")
    assert not (tmp_path / "model.onnx").exists()
    with pytest.raises(CheckpointError, match=r"no such model"):
        OnnxEngine(tmp_path / "absent.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 100)
    with pytest.raises(CheckpointError, match=r"noise\.onnx: not an ONNX model"):
        OnnxEngine(tmp_path / "noise.onnx")
    identity = onnx.helper.make_node("Identity", ["a"], ["b"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([identity], "other", values[:1], values[1:])
    other = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(CheckpointError, match=r"not an ONNX file of this package \(no format"):
        OnnxEngine(tmp_path / "other.onnx")
    for version in ("1.24.1", "1.25.0", "1.25.3", "1.26.0"):
        monkeypatch.setattr(onnxruntime, "__version__", version)
        with pytest.raises(CheckpointError, match=rf"onnxruntime {version}: this release gives wrong results"):
            OnnxEngine(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("key", "value", "finding"),
    [
        ("alphabet", "[1, 2", "metadata do not make sense"),
        ("alphabet", '{"symbols": "ab"}', "metadata do not make sense"),
        ("sample_rate", "0", "sample_rate 0, expected"),
        ("sample_rate", "fast", "fast"),
        ("seconds_per_step", "nan", "seconds_per_step nan"),
        ("seconds_per_step", "-0.02", "seconds_per_step -0.02"),
        ("time_stretches", "[0.0]", "time_stretches"),
        ("time_stretches", "7", "metadata do not make sense"),
        ("recipe", "[]", "its recipe is no table"),
        ("precision", None, "precision"),
    ],
)
def test_metadata_that_make_no_sense_are_one_line(key, value, finding):
    _, proto = exported(ENCODERS["quartznet"])
    kept = [each for each in proto.metadata_props if each.key != key]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    if value is not None:
        onnx.helper.set_model_props(proto, {**{each.key: each.value for each in kept}, key: value})
    with pytest.raises(CheckpointError, match=finding) as error:
        OnnxEngine(proto.SerializeToString())
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300


def test_a_graph_that_its_metadata_do_not_describe_is_one_line():
    _, proto = exported(ENCODERS["quartznet"])
    named = next(each for each in proto.graph.input if each.name == "audio_lengths")
    for node in proto.graph.node:
        node.input[:] = ["lengths" if each == named.name else each for each in node.input]
        for attribute in node.attribute:
            for inner in attribute.g.node:
                inner.input[:] = ["lengths" if each == named.name else each for each in inner.input]
    named.name = "lengths"
    with pytest.raises(CheckpointError, match=r"the graph's inputs are audio, lengths"):
        OnnxEngine(proto.SerializeToString())


def test_an_alphabet_without_a_space_gives_one_word():
    model, checkpoint = checkpoint_of(ENCODERS["quartznet"])
    alphabet = Alphabet("abcdefghijklmnopqrstuvwxyz'-")
    proto = onnx_model(model, replace(checkpoint, alphabet=alphabet))
    assert " " not in Recognizer(OnnxEngine(proto.SerializeToString()))(sounds()[0]).text


def test_an_exported_model_needs_no_pytorch(saved, tmp_path):
    command.onnx(saved, tmp_path / "model.onnx")
    code = (
        "import sys, numpy as np\n"
        "from carnelian import Recognizer, count_errors\n"
        f"print(repr(Recognizer.load({str(tmp_path / 'model.onnx')!r})(np.zeros(16000, np.float32)).text))\n"
        "count_errors('a b c', 'a c')\n"
        "import carnelian.commands.transcribe, carnelian.commands.evaluate\n"
        "print([name for name in ('torch', 'numba', 'safetensors', 'onnx') if name in sys.modules])\n"
        "import carnelian.decoding.beam, carnelian.ngram.load, carnelian.commands.tune\n"
        "print([name for name in ('torch', 'safetensors', 'onnx') if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.endswith("[]\n[]\n"), run.stdout + run.stderr


def test_int8_without_convolutional_blocks_is_refused():
    with pytest.raises(CarnelianError, match="int8 is for encoders of convolutional blocks"):
        Quantizer(exported(ENCODERS["conformer"])[1])


def test_auto_takes_the_fastest_and_remembers_it(saved, tmp_path, monkeypatch):
    """Of two files of one model, or two precisions of a checkpoint; the choice is kept by processor and read again."""
    monkeypatch.setenv("CARNELIAN_HOME", str(tmp_path / "home"))
    model, checkpoint = checkpoint_of(ENCODERS["quartznet"])
    proto = onnx_model(model, checkpoint)
    quantizer = Quantizer(proto)
    quantized = quantizer.quantized(Scheme("uint8", "minmax"), quantizer.ranges(sounds()[:1]))
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    assert Recognizer.load(tmp_path / "model.onnx", precision="auto").engine.precision == "fp32"
    (tmp_path / "model.int8.onnx").write_bytes(quantized.SerializeToString())
    chosen = Recognizer.load(tmp_path / "model.onnx", precision="auto").engine.precision
    memory = tmp_path / "home" / "precision.json"
    [(key, kept)] = json.loads(memory.read_text()).items()
    assert kept == chosen and processor_facts()[0] in key and "quartznet" in key
    other = {"fp32": "int8", "int8": "fp32"}[chosen]
    memory.write_text(json.dumps({key: other}))
    for name in ("model.onnx", "model.int8.onnx"):
        assert Recognizer.load(tmp_path / name, precision="auto").engine.precision == other
    memory.write_text("not JSON")
    assert Recognizer.load(saved, device="cpu", precision="auto").engine.precision in ("fp32", "bf16")
    _, changed = exported(ENCODERS["jasper"])
    (tmp_path / "model.onnx").write_bytes(changed.SerializeToString())
    assert Recognizer.load(tmp_path / "model.int8.onnx", precision="auto").engine.precision == "int8"
    with pytest.raises(CheckpointError, match=r"has its own precision"):
        Recognizer.load(tmp_path / "model.onnx", precision="bf16")
