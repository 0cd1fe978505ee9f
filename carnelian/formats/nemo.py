"""NeMo's checkpoints, read without NeMo: `.nemo` archives, Lightning `.ckpt`, and the pairs of NeMo 0.x.

The door to pyyaml.
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from carnelian.data.alphabet import Alphabet, WordPieces
from carnelian.errors import CheckpointError, MissingExtraError
from carnelian.formats.convolutional import encoder_weights, model_weights, standard_names
from carnelian.formats.safe_loading import (
    ForeignModel,
    check_tensors,
    first_line,
    plain,
    read_archive,
    read_pickle,
)
from carnelian.models.layers import BlockSpec

YAML_BYTES = 2**22  # more than any configuration has
LONGEST_WINDOW = 2**16  # samples of a window
LAYERS = 1000  # more specs, and more repeats in one, than any network has
CONFIGURATION, WEIGHTS = "model_config.yaml", "model_weights.ckpt"


def yaml_module() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml", "nemo", "Reading and writing NeMo's configurations") from None
    return yaml


def read_configuration(where: str | Path, data: bytes) -> dict[str, Any]:
    """A YAML configuration as plain data."""
    yaml = yaml_module()
    if len(data) > YAML_BYTES:
        raise CheckpointError(f"{where}: a configuration of {len(data)} bytes. Expected a few thousand: not read")
    try:
        configuration = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{where}: not a YAML configuration ({first_line(error)})") from None
    if not isinstance(configuration, dict):
        raise CheckpointError(f"{where}: not a configuration but {type(configuration).__name__}")
    if "JasperEncoder" in configuration:  # NeMo 0.x named its tables by the modules
        tables = {"encoder": "JasperEncoder", "preprocessor": "AudioToMelSpectrogramPreprocessor"}
        found = {ours: configuration.get(theirs) for ours, theirs in tables.items()}
        return {"nemo_version": "0.11", "decoder": {}, **configuration, **found}
    inner = configuration.get("model")
    return inner if isinstance(inner, dict) and "encoder" not in configuration else configuration


def configuration_text(configuration: Mapping[str, Any]) -> bytes:
    """A configuration as YAML."""
    return yaml_module().safe_dump(dict(configuration), sort_keys=False, allow_unicode=True).encode()


class Section:
    """A table of a configuration, whose values are asked for by name and type."""

    def __init__(self, where: str | Path, name: str, table: Any):
        if not isinstance(table, dict):
            raise CheckpointError(
                f"{where}: its configuration has no table '{name}'. Is this a speech recognizer of NeMo?"
            )
        # NeMo 1.0's first versions kept the settings under `params`
        self.where, self.name, self.table = where, name, {**table, **(table.get("params") or {})}
        self.target = str(table.get("_target_") or table.get("cls") or "").rpartition(".")[2]

    def get(self, key: str, kind: type, default: Any) -> Any:
        """A value; a list of one counts as its element, and a number written as text as the number."""
        value = self.table.get(key)
        if value is None:
            return default
        if isinstance(value, list) and kind is not list and len(value) == 1:
            value = value[0]
        try:
            if isinstance(value, kind) or kind in (int, float):
                return kind(value)
        except (TypeError, ValueError):
            pass
        raise CheckpointError(f"{self.where}: {self.name}.{key} is {reprlib.repr(value)}, expected {kind.__name__}")

    def expect(self, **settings: Any) -> None:
        """Raises CheckpointError for a setting whose value this package cannot follow."""
        for key, expected in settings.items():
            found = self.table.get(key)
            if found is not None and found != expected:
                raise CheckpointError(
                    f"{self.where}: {self.name}.{key} is {reprlib.repr(found)}; only {expected!r} is supported here"
                )


def version_of(configuration: Mapping[str, Any]) -> tuple[int, int]:
    """The (major, minor) version of NeMo that wrote an archive; 1.0 did not yet note it."""
    numbers = re.findall(r"\d+", str(configuration.get("nemo_version", "1.0")))
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else (1, 0)


def features_table(section: Section, sample_rate: int, version: tuple[int, int]) -> dict[str, Any]:
    """The recipe's [features] from NeMo's preprocessor; how frames are counted and edges padded follows NeMo's version."""
    section.expect(
        window="hann",
        frame_splicing=1,
        exact_pad=False,
        mag_power=2.0,
        log=True,
        log_zero_guard_type="add",
        mel_norm="slaney",
        pad_value=0,
        lowfreq=0,
    )
    sample_rate = section.get("sample_rate", int, sample_rate)
    window = section.get("window_size", float, 0.02)
    hop = section.get("window_stride", float, 0.01)
    if not (
        1000 <= sample_rate <= 2**20
        and int(sample_rate * hop) >= 1
        and 2 <= int(sample_rate * window) <= LONGEST_WINDOW
    ):
        raise CheckpointError(
            f"{section.where}: windows of {window} s every {hop} s at {sample_rate} Hz. Is the configuration whole?"
        )
    fft = section.get("n_fft", int, 2 ** (int(sample_rate * window) - 1).bit_length())
    if not int(sample_rate * window) <= fft <= LONGEST_WINDOW:
        raise CheckpointError(
            f"{section.where}: {section.name}.n_fft is {fft} for windows of {int(sample_rate * window)} samples"
        )
    normalize = section.table.get("normalize", "per_feature")
    pad_to = section.table.get("pad_to")
    if section.table.get("highfreq") not in (None, sample_rate // 2):
        section.expect(highfreq=sample_rate // 2)
    recent = version >= (2, 5)
    return {
        "name": "log_mel",
        "features": section.get("features", int, 64),
        "sample_rate": sample_rate,
        "window": window,
        "hop": hop,
        "fft": fft,
        "preemphasis": section.get("preemph", float, 0.97),
        "dither": section.get("dither", float, 1e-5),
        "log_guard": section.get("log_zero_guard_value", float, 2.0**-24),
        "normalize": normalize if normalize in ("per_feature", "all_features") else "none",
        "frame_count": "floor" if recent else "ceil" if version < (1, 0) else "floor+1",
        "edge": "zeros" if recent else "reflect",
        "pad_to": pad_to if isinstance(pad_to, int) else 16,
    }


def block_spec(section: Section, residual_mode: str) -> BlockSpec:
    """A line of our table from an entry of NeMo's `jasper` list."""
    section.expect(heads=-1, se_context_size=-1, future_context=-1, quantize=False)
    kernel = max(int(section.get("kernel", int, 11) * section.get("kernel_size_factor", float, 1.0)), 1)
    if section.get("kernel_size_factor", float, 1.0) != 1.0:
        kernel = kernel // 2 * 2 + 1
    stride, repeat = section.get("stride", int, 1), section.get("repeat", int, 1)
    residual = section.get("residual", bool, False)
    if kernel % 2 == 0 or (stride > 1 and repeat > 1 and not section.get("stride_last", bool, False)):
        raise CheckpointError(
            f"{section.where}: {section.name} has kernel {kernel}, stride {stride}, repeat {repeat}; "
            "only odd kernels, and strides that are taken once, are supported here"
        )
    if residual_mode not in ("add", "stride_add") or (residual and stride > 1 and residual_mode == "add"):
        raise CheckpointError(
            f'{section.where}: {section.name} has residual_mode "{residual_mode}", which does not fit here'
        )
    return BlockSpec(
        channels=section.get("filters", int, 0),
        kernel=kernel,
        repeat=repeat,
        stride=stride,
        dilation=section.get("dilation", int, 1),
        dropout=section.get("dropout", float, 0.0),
        residual=("dense" if section.get("residual_dense", bool, False) else "plain") if residual else "none",
        separable=section.get("separable", bool, False),
        groups=section.get("groups", int, 1),
        excitation=section.get("se_reduction_ratio", int, 8) if section.get("se", bool, False) else 0,
    )


def encoder_settings(section: Section) -> tuple[list[BlockSpec], dict[str, Any]]:
    """(specs, the other settings of our encoder) of NeMo's ConvASREncoder."""
    if section.target not in ("ConvASREncoder", "JasperEncoder", ""):
        raise CheckpointError(
            f'{section.where}: its encoder is "{section.target}", which is unknown here. '
            "ConvASREncoder is read: Jasper, QuartzNet, Citrinet"
        )
    section.expect(normalization_mode="batch", frame_splicing=1)
    activation = section.get("activation", str, "relu")
    if activation not in ("relu", "swish"):
        section.expect(activation="relu")
    entries = section.get("jasper", list, [])
    specs, residual_mode = [], section.get("residual_mode", str, "add")
    for index, entry in enumerate(entries):
        line = Section(section.where, f"encoder.jasper.{index}", entry)
        residual_mode = line.get("residual_mode", str, residual_mode)  # in NeMo it holds until the next that is given
        specs.append(block_spec(line, residual_mode))
    sizes = [(r.channels, r.repeat, r.kernel, r.stride, r.dilation, r.groups) for r in specs]
    if not 0 < len(specs) <= LAYERS or any(min(size) < 1 or size[1] > LAYERS for size in sizes):
        raise CheckpointError(
            f"{section.where}: encoder.jasper describes no layers, or too many. Is the configuration whole?"
        )
    if activation != "relu" and any(r.excitation for r in specs):
        section.expect(activation="relu")
    settings: dict[str, Any] = {} if activation == "relu" else {"activation": activation}
    return specs, settings if section.get("conv_mask", bool, True) else {**settings, "mask": False}


def block_tables(specs: Sequence[BlockSpec]) -> list[dict[str, Any]]:
    """Rows as tables of a recipe, without what is left at its default."""
    usual = asdict(BlockSpec(0, 0))
    return [{key: value for key, value in asdict(r).items() if value != usual[key]} for r in specs]


def nemo_alphabet(
    where: str | Path, configuration: dict[str, Any], decoder: Section, members: Mapping[str, bytes]
) -> Alphabet:
    """The alphabet: the SentencePiece model of the archive, or the vocabulary of the decoder."""
    tokenizer = configuration.get("tokenizer")
    if isinstance(tokenizer, dict):
        name = PurePosixPath(str(tokenizer.get("model_path") or "tokenizer.model").removeprefix("nemo:")).name
        found = [data for member, data in members.items() if PurePosixPath(member).name == name]
        if tokenizer.get("type", "bpe") != "bpe" or not found:
            raise CheckpointError(
                f'{where}: its word pieces come from "{tokenizer.get("type")}", {name}. Expected a SentencePiece model in the archive'
            )
        return WordPieces(found[0])
    symbols = decoder.table.get("vocabulary") or configuration.get("labels")
    if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str | int) for symbol in symbols):
        raise CheckpointError(
            f"{where}: its configuration has neither decoder.vocabulary nor labels, so its symbols are unknown"
        )
    # YAML 1.1 reads an unquoted n or y as false or true
    return Alphabet([{True: "y", False: "n"}[s] if isinstance(s, bool) else str(s) for s in symbols])


def resolved(configuration: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `${labels}` and `${model.labels}` replaced by what they point at."""
    done: dict[int, Any] = {}

    def value(found: Any, depth: int) -> Any:
        if isinstance(found, str) and depth < 8 and (pointer := re.fullmatch(r"\$\{([\w.]+)\}", found)):
            target: Any = configuration
            for key in pointer[1].removeprefix("model.").split("."):
                target = target.get(key) if isinstance(target, dict) else None
            return value(target, depth + 1)
        if not isinstance(found, dict | list) or depth > 8:
            return found
        if id(found) not in done:  # what YAML's aliases share stays shared
            done[id(found)] = found
            parts = found.items() if isinstance(found, dict) else enumerate(found)
            inner = {key: value(part, depth + 1) for key, part in parts}
            done[id(found)] = inner if isinstance(found, dict) else list(inner.values())
        return done[id(found)]

    return value(configuration, 0)


def masks_table(where: str | Path, configuration: dict[str, Any]) -> dict[str, Any]:
    """The recipe's [masks] from NeMo's spec_augment."""
    table = configuration.get("spec_augment")
    section = Section(where, "spec_augment", table if isinstance(table, dict) else {})
    masks: dict[str, Any] = {}
    if section.get("rect_masks", int, 0):
        masks["spec_cutout"] = {
            "masks": section.get("rect_masks", int, 0),
            "frequency_width": section.get("rect_freq", int, 20),
            "time_width": section.get("rect_time", int, 5),
        }
    if section.get("freq_masks", int, 0) or section.get("time_masks", int, 0):
        width = section.table.get("time_width", 10)
        masks["spec_augment"] = {
            "frequency_masks": section.get("freq_masks", int, 0),
            "frequency_width": section.get("freq_width", int, 10),
            "time_masks": section.get("time_masks", int, 0),
            "time_width": width if isinstance(width, int | float) else 10,
        }
    return masks


def foreign_model(
    where: str | Path, configuration: dict[str, Any], weights: Mapping[str, Any], members: Mapping[str, bytes]
) -> ForeignModel:
    """The model of a NeMo configuration and its weights."""
    configuration = resolved(configuration)
    specs, settings = encoder_settings(Section(where, "encoder", configuration.get("encoder")))
    preprocessor = Section(where, "preprocessor", configuration.get("preprocessor"))
    decoder = Section(where, "decoder", configuration.get("decoder"))
    named = standard_names(where, check_tensors(str(where), weights))
    inputs = Section(where, "encoder", configuration["encoder"]).get("feat_in", int, 64)
    if decoder.target == "ConvASRDecoderClassification":
        encoder_weights(where, named, inputs, specs)
        labels = configuration.get("labels") or []
        kind = "a voice activity detector" if "speech" in labels else "a classifier"
        raise CheckpointError(
            f"{where}: {kind} (labels {reprlib.repr(labels)}), no recognizer: it writes no text. "
            f"Its encoder of {len(specs)} blocks is whole; give a model with a CTC decoder"
        )
    if decoder.target not in ("ConvASRDecoder", "JasperDecoderForCTC", ""):
        raise CheckpointError(
            f'{where}: its decoder is "{decoder.target}", which is unknown here. CTC decoders are read'
        )
    if preprocessor.target not in ("AudioToMelSpectrogramPreprocessor", ""):
        raise CheckpointError(
            f'{where}: its features are "{preprocessor.target}", which are unknown here. Mel spectrograms are read'
        )
    alphabet = nemo_alphabet(where, configuration, decoder, members)
    version = version_of(configuration)
    features = features_table(
        preprocessor, Section(where, "model", configuration).get("sample_rate", int, 16_000), version
    )
    if features["features"] != inputs:
        raise CheckpointError(f"{where}: preprocessor.features is {features['features']}, encoder.feat_in is {inputs}")
    recipe: dict[str, Any] = {
        "features": features,
        "encoder": {"name": "convolutional", **settings, "blocks": block_tables(specs)},
        "masks": masks_table(where, configuration),
    }
    remark = f'frames are counted as NeMo {version[0]}.{version[1]} does ("{features["frame_count"]}")'
    return ForeignModel(recipe, alphabet, model_weights(where, named, inputs, specs, len(alphabet)), (remark,))


def read_nemo(path: Path) -> ForeignModel:
    """The model of a `.nemo` archive, plain or gzip."""
    members = read_archive(path)
    for name in (CONFIGURATION, WEIGHTS):
        if name not in members:
            raise CheckpointError(
                f"{path}: has no member {name} (it has {', '.join(sorted(members)[:5]) or 'none'}). Not a whole .nemo archive"
            )
    configuration = read_configuration(f"{path}: {CONFIGURATION}", members[CONFIGURATION])
    weights = read_pickle(f"{path}: {WEIGHTS}", members[WEIGHTS])
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: {WEIGHTS} holds no state dictionary but {type(weights).__name__}")
    return foreign_model(path, configuration, weights, members)


def read_lightning(path: Path, content: dict[str, Any]) -> ForeignModel:
    """The model of a Lightning `.ckpt` that NeMo wrote: its settings are among the hyper-parameters."""
    settings = plain(content.get("hyper_parameters") or {})
    configuration = settings.get("cfg", settings) if isinstance(settings, dict) else {}
    if not isinstance(configuration, dict) or "encoder" not in configuration:
        raise CheckpointError(
            f"{path}: a Lightning checkpoint without NeMo's configuration in it. Save the model as .nemo"
        )
    return foreign_model(path, configuration, content["state_dict"], {})
