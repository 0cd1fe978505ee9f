"""NeMo's checkpoints, read without NeMo: `.nemo` archives and Lightning `.ckpt` with a CTC head."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from carnelian.data.alphabet import Alphabet, GreedyPieces, WordPieces
from carnelian.errors import CheckpointError
from carnelian.formats.convolutional import encoder_weights, head_weights, model_weights, standard_names
from carnelian.formats.nemo.configuration import (
    Section,
    features_table,
    masks_table,
    read_configuration,
    resolved,
    version_of,
)
from carnelian.formats.nemo.conformer import conformer_settings, conformer_weights
from carnelian.formats.safe_loading import ForeignModel, check_tensors, plain, read_archive, read_file, read_pickle
from carnelian.models.block_spec import BlockSpec

LAYERS = 1000  # more specs, and more repeats in one, than any network has
CONFIGURATION, WEIGHTS = "model_config.yaml", "model_weights.ckpt"


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
            f'{section.where}: its encoder is "{section.target}", which is unknown here. Read are ConvASREncoder '
            "(Jasper, QuartzNet, Citrinet) and ConformerEncoder (Conformer, Fast Conformer)"
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
    """The alphabet: the word pieces of the archive's tokenizer, or the vocabulary of the decoder."""
    tokenizer = configuration.get("tokenizer")
    if isinstance(tokenizer, dict):
        return tokenizer_of(where, tokenizer, members)
    symbols = decoder.table.get("vocabulary") or configuration.get("labels")
    if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str | int) for symbol in symbols):
        raise CheckpointError(
            f"{where}: its configuration has neither decoder.vocabulary nor labels, so its symbols are unknown"
        )
    # YAML 1.1 reads an unquoted n or y as false or true
    return Alphabet([{True: "y", False: "n"}[s] if isinstance(s, bool) else str(s) for s in symbols])


def tokenizer_of(where: str | Path, tokenizer: Mapping[str, Any], members: Mapping[str, bytes]) -> Alphabet:
    """The word pieces of a SentencePiece model ("bpe"), or of a vocabulary in BERT's form ("wpe")."""
    kind = str(tokenizer.get("type", "bpe")).lower()
    key, usual = {"bpe": ("model_path", "tokenizer.model"), "wpe": ("vocab_path", "vocab.txt")}.get(kind, ("", ""))
    if not key:
        raise CheckpointError(
            f'{where}: its tokenizer is of type "{kind}", which is not read. Read are "bpe" (SentencePiece) and "wpe" '
            "(a vocabulary of word pieces)"
        )
    name = PurePosixPath(str(tokenizer.get(key) or usual).removeprefix("nemo:")).name
    found = [data for member, data in members.items() if PurePosixPath(member).name == name]
    if not found:
        raise CheckpointError(
            f"{where}: its tokenizer {name} is missing. Expected it in the archive, or beside a .ckpt"
        )
    if kind == "bpe":
        return WordPieces(found[0])
    return GreedyPieces(
        [f"▁{piece}" if not piece.startswith("##") else piece[2:] for piece in lines_of(where, found[0])]
    )


def lines_of(where: str | Path, data: bytes) -> list[str]:
    """The word pieces of a vocabulary, one a line."""
    try:
        return [line for line in data.decode("utf-8").split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise CheckpointError(f"{where}: the vocabulary of its tokenizer is not UTF-8. Is the archive whole?") from None


def ctc_decoder(where: str | Path, configuration: Mapping[str, Any]) -> Section:
    """The table of the CTC decoder; CheckpointError for a model that has none."""
    target = str(configuration.get("target", "")).rpartition(".")[2]
    if "MultiTask" in target:
        raise CheckpointError(
            f"{where}: a {target} (such as Canary), which writes what a prompt asks for with an attention decoder. "
            "Models with a CTC decoder are read"
        )
    auxiliary = configuration.get("aux_ctc")
    if isinstance(auxiliary, dict):
        return Section(where, "aux_ctc.decoder", auxiliary.get("decoder"))
    decoder = Section(where, "decoder", configuration.get("decoder"))
    if decoder.target.startswith("RNNT") or "joint" in configuration:
        raise CheckpointError(
            f"{where}: a transducer ({target or decoder.target}) without a CTC decoder. Models with a CTC decoder are read, "
            "also hybrid ones (EncDecHybridRNNTCTC...)"
        )
    return decoder


def ctc_part(where: str | Path, weights: Mapping[str, Tensor], hybrid: bool) -> dict[str, Tensor]:
    """The weights without the transducer of a hybrid model, whose CTC decoder is named as in other models."""
    if any(name.startswith("prompt_kernel.") for name in weights):
        raise CheckpointError(
            f"{where}: its encoder is conditioned by prompts (a language), which is not supported here"
        )
    if not hybrid:
        return dict(weights)
    left_out = ("decoder.", "joint.", "ctc_wer", "ctc_loss")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(left_out)}
    return {name.removeprefix("ctc_") if name.startswith("ctc_decoder.") else name: kept[name] for name in kept}


def refuse_classifier(where: str | Path, configuration: Mapping[str, Any], blocks: int) -> None:
    """Raises CheckpointError for a convolutional classifier, whose encoder was read."""
    labels = configuration.get("labels") or []
    kind = "a voice activity detector" if "speech" in labels else "a classifier"
    raise CheckpointError(
        f"{where}: {kind} (labels {reprlib.repr(labels)}), no recognizer: it writes no text. "
        f"Its encoder of {blocks} blocks is whole; give a model with a CTC decoder"
    )


def foreign_model(
    where: str | Path, configuration: dict[str, Any], weights: Mapping[str, Any], members: Mapping[str, bytes]
) -> ForeignModel:
    """The model of a NeMo configuration and its weights."""
    configuration = resolved(configuration)
    decoder, encoder = ctc_decoder(where, configuration), Section(where, "encoder", configuration.get("encoder"))
    preprocessor = Section(where, "preprocessor", configuration.get("preprocessor"))
    hybrid, conformer = decoder.name != "decoder", encoder.target == "ConformerEncoder"
    tensors = ctc_part(where, check_tensors(str(where), weights), hybrid)
    inputs = encoder.get("feat_in", int, 64)
    if not conformer:
        specs, settings = encoder_settings(encoder)
        named = standard_names(where, tensors)
        if decoder.target == "ConvASRDecoderClassification":
            encoder_weights(where, named, inputs, specs)
            refuse_classifier(where, configuration, len(specs))
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
    if conformer:
        table = conformer_settings(encoder, tensors)
        ours = conformer_model(where, tensors, table, inputs, len(alphabet))
    else:
        table = {"name": "convolutional", **settings, "blocks": block_tables(specs)}
        ours = model_weights(where, named, inputs, specs, len(alphabet))
    recipe = {"features": features, "encoder": table, "masks": masks_table(where, configuration)}
    remarks = [f'frames are counted as NeMo {version[0]}.{version[1]} does ("{features["frame_count"]}")']
    if hybrid:
        remarks.append("a hybrid model: its CTC decoder is taken, its transducer left out")
    return ForeignModel(recipe, alphabet, ours, tuple(remarks))


def conformer_model(
    where: str | Path, tensors: Mapping[str, Tensor], table: Mapping[str, Any], features: int, symbols: int
) -> dict[str, Tensor]:
    """The weights of a Conformer with its head; CheckpointError for a module that is in no such model."""
    left_out = ("preprocessor.", "spec_aug", "loss", "_wer", "wer")
    head, encoder = {}, {}
    for name, tensor in tensors.items():
        if name.startswith("encoder."):
            encoder[name] = tensor
        elif name.startswith("decoder.decoder_layers.0."):
            head[name.replace("decoder.decoder_layers.0", "head")] = tensor
        elif not name.startswith(left_out):
            raise CheckpointError(
                f'{where}: holds "{name}", of a module that is unknown here. Conformers with a CTC decoder are read'
            )
    ours = conformer_weights(where, encoder, table, features)
    channels = table.get("outputs") or table.get("channels", 176)
    ours |= head_weights(where, head, channels, symbols)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in ours.items()}


def read_nemo(path: Path) -> ForeignModel:
    """The model of a `.nemo` archive, plain or gzip."""
    members = read_archive(path)
    for name in (CONFIGURATION, WEIGHTS):
        if name not in members:
            raise CheckpointError(
                f"{path}: has no member {name} (it has {', '.join(sorted(members)[:5]) or 'none'}). Not a whole .nemo archive"
            )
    configuration = read_configuration(f"{path}: {CONFIGURATION}", members[CONFIGURATION])
    weights = read_pickle(f"{path}: {WEIGHTS}", members.pop(WEIGHTS))
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
    beside = {found.name: read_file(found) for found in tokenizer_files(path, configuration)}
    return foreign_model(path, configuration, content["state_dict"], beside)


def tokenizer_files(path: Path, configuration: Mapping[str, Any]) -> list[Path]:
    """The files of a tokenizer that lie beside a Lightning checkpoint, which does not hold them."""
    tokenizer = configuration.get("tokenizer")
    paths = (
        [str(value) for key, value in tokenizer.items() if key.endswith("_path")] if isinstance(tokenizer, dict) else []
    )
    names = {PurePosixPath(name.removeprefix("nemo:")).name for name in paths} | {"tokenizer.model", "vocab.txt"}
    return [path.parent / name for name in sorted(names - {""}) if (path.parent / name).is_file()]
