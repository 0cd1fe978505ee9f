"""Our models written as `.nemo` archives, which NeMo loads."""

import inspect
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carnelian.data.alphabet import Alphabet, GreedyPieces, WordPieces
from carnelian.errors import CheckpointError
from carnelian.formats.convolutional import weight_names
from carnelian.formats.nemo.checkpoint import CONFIGURATION, WEIGHTS
from carnelian.formats.nemo.configuration import configuration_text
from carnelian.formats.nemo.conformer import conformer_table, nemo_weights
from carnelian.models.acoustic import AcousticModel
from carnelian.models.block_spec import ACTIVATIONS, BlockSpec
from carnelian.models.encoders.conformer import Conformer
from carnelian.models.features import log_mel
from carnelian.models.layers import ConvolutionalEncoder

#: what NeMo calls the files of a tokenizer: (setting, member of the archive)
TOKENIZER = {"model_path": "tokenizer.model", "vocab_path": "vocab.txt", "spe_tokenizer_vocab": "tokenizer.vocab"}


def tokenizer_table(alphabet: Alphabet) -> dict[str, Any]:
    """NeMo's table of a tokenizer; empty for characters."""
    if isinstance(alphabet, WordPieces):
        return {"dir": None, "type": "bpe", **{key: f"nemo:{name}" for key, name in TOKENIZER.items()}}
    return {"dir": None, "type": "wpe", "vocab_path": "nemo:vocab.txt"} if isinstance(alphabet, GreedyPieces) else {}


def tokenizer_members(alphabet: Alphabet) -> dict[str, bytes]:
    """The files of a tokenizer by their names in the archive; none for characters."""
    if isinstance(alphabet, GreedyPieces):
        pieces = (symbol[1:] if symbol.startswith(alphabet.separator) else f"##{symbol}" for symbol in alphabet.symbols)
        return {"vocab.txt": "".join(f"{piece}\n" for piece in pieces).encode()}
    if not isinstance(alphabet, WordPieces):
        return {}
    scores = [alphabet.processor.get_score(index) for index in range(len(alphabet))]
    listed = "".join(f"{piece}\n" for piece in alphabet.symbols)
    scored = "".join(f"{piece}\t{score:g}\n" for piece, score in zip(alphabet.symbols, scores))
    return dict(zip(TOKENIZER.values(), (alphabet.model, listed.encode(), scored.encode())))


def feature_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The [features] of a recipe with what it leaves at the defaults; CheckpointError where NeMo has no such front end."""
    table = dict(recipe.get("features", {}))
    name = table.pop("name", "log_mel")
    if name != "log_mel":
        raise CheckpointError(f'export nemo: the features are "{name}"; NeMo models of this kind take log_mel')
    defaults = {key: parameter.default for key, parameter in inspect.signature(log_mel).parameters.items()}
    return {**defaults, **table}


def encoder_table(encoder: Any, recipe: Mapping[str, Any], features: int) -> dict[str, Any]:
    """NeMo's table of one of our encoders; CheckpointError for one that NeMo does not have."""
    if isinstance(encoder, Conformer):
        settings = {key: value for key, value in recipe["encoder"].items() if key != "name"}
        return conformer_table(settings, features)
    if not isinstance(encoder, ConvolutionalEncoder):
        raise CheckpointError(
            f"export nemo: the encoder is a {type(encoder).__name__}; Jasper, QuartzNet, Citrinet, Conformer and their kin can be "
            "exported"
        )
    if encoder.front.layers:
        raise CheckpointError(
            "export nemo: the encoder begins with 2-D convolutions, which NeMo's ConvASREncoder does not have"
        )
    block: Any = next(iter(encoder.blocks))
    activation = next(name for name, function in ACTIVATIONS.items() if function is block.activation)
    odd = {row.residual for row in encoder.specs} - {"none", "plain", "dense"}
    if activation not in ("relu", "swish") or type(block.convolutions[0].norm) is not nn.BatchNorm2d or odd:
        raise CheckpointError(
            "export nemo: NeMo's encoder has batch norm, the activations relu and swish, plain and dense residuals; this one has "
            f"{activation}, {type(block.convolutions[0].norm).__name__}, {', '.join(sorted(odd)) or 'no odd residuals'}"
        )
    return {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": features,
        "activation": activation,
        "conv_mask": encoder.mask,
        "jasper": [entry_of(r) for r in encoder.specs],
    }


def configuration_of(model: AcousticModel, recipe: Mapping[str, Any], alphabet: Alphabet) -> dict[str, Any]:
    """NeMo's configuration of one of our models; CheckpointError for what NeMo does not have."""
    if recipe.get("criterion", {}).get("name", "ctc") != "ctc":
        raise CheckpointError("export nemo: the model was trained by ASG; NeMo knows CTC. Train one with CTC")
    features = feature_settings(recipe)
    table = encoder_table(model.encoder, recipe, features["features"])
    tokenizer, symbols = tokenizer_table(alphabet), list(alphabet.symbols)
    kind = "ctc_bpe_models.EncDecCTCModelBPE" if tokenizer else "ctc_models.EncDecCTCModel"
    return {
        "target": f"nemo.collections.asr.models.{kind}",
        "nemo_version": {"floor": "2.5.0", "floor+1": "1.0.0", "ceil": "0.11.0"}[features["frame_count"]],
        "sample_rate": features["sample_rate"],
        **({"tokenizer": tokenizer} if tokenizer else {"labels": symbols}),
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": features["sample_rate"],
            "window_size": features["window"],
            "window_stride": features["hop"],
            "window": "hann",
            "normalize": features["normalize"] if features["normalize"] != "none" else "NA",
            "features": features["features"],
            "n_fft": features["fft"],
            "preemph": features["preemphasis"],
            "dither": features["dither"],
            "log_zero_guard_value": features["log_guard"],
            "pad_to": features["pad_to"],
            "frame_splicing": 1,
        },
        "encoder": table,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": model.encoder.channels,
            "num_classes": len(symbols),
            "vocabulary": symbols,
        },
    }


def entry_of(row: BlockSpec) -> dict[str, Any]:
    """An entry of NeMo's `jasper` list from a line of our table."""
    return {
        "filters": row.channels,
        "repeat": row.repeat,
        "kernel": [row.kernel],
        "stride": [row.stride],
        "dilation": [row.dilation],
        "dropout": row.dropout,
        "residual": row.residual != "none",
        "residual_dense": row.residual == "dense",
        "separable": row.separable,
        "groups": row.groups,
        "residual_mode": "stride_add" if row.stride > 1 else "add",
        "stride_last": row.repeat > 1,
        "se": row.excitation > 0,
        "se_reduction_ratio": row.excitation or 8,
    }


def weights_of(model: Any) -> dict[str, Tensor]:
    """Our weights under NeMo's names and in its shapes, with the buffers that NeMo keeps of its front end."""
    ours = model.encoder.state_dict()
    weights = {
        "preprocessor.featurizer.window": model.features.window,
        "preprocessor.featurizer.fb": model.features.to_features.bands[None],
    }
    if isinstance(model.encoder, Conformer):
        weights |= nemo_weights(ours, len(model.encoder.layers))
    else:
        weights |= convolutional_weights(model.encoder, ours)
    weights["decoder.decoder_layers.0.weight"] = model.head.weight[:, :, None]
    weights["decoder.decoder_layers.0.bias"] = model.head.bias
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def convolutional_weights(encoder: ConvolutionalEncoder, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A convolutional encoder's weights under NeMo's names and in its shapes."""
    weights = {}
    for name, standard in weight_names(encoder.specs):
        block, rest = standard.split(".", 1)
        tensor = ours[name]
        if tensor.ndim == 4:
            tensor = tensor.squeeze(2)
            if encoder.mask:  # NeMo wraps convolutions in ones that mask
                rest = rest.removesuffix("weight") + "conv.weight"
        rest = rest.replace("conv.", "mconv.", 1) if rest.startswith("conv.") else rest
        weights[f"encoder.encoder.{block}.{rest}"] = tensor
    return weights


def write_nemo(path: Path, model: AcousticModel, recipe: Mapping[str, Any], alphabet: Alphabet) -> list[str]:
    """Writes a model as a `.nemo` archive that NeMo loads, all or nothing; gives what the user should know."""
    configuration = configuration_of(model, recipe, alphabet)
    weights = io.BytesIO()
    torch.save(weights_of(model), weights)
    members = {
        CONFIGURATION: configuration_text(configuration),
        WEIGHTS: weights.getvalue(),
        **tokenizer_members(alphabet),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror}). Is there room, and may you write there?"
        ) from None
    features = feature_settings(recipe)
    if (features["frame_count"], features["edge"]) == ("floor", "zeros"):
        return []
    return [
        f'its frames are counted as "{features["frame_count"]}" with edges of {features["edge"]}; '
        'NeMo since 2.5 counts every model\'s as "floor" with edges of zeros, so that border frames differ there'
    ]
