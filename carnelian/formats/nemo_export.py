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

from carnelian.data.alphabet import Alphabet, WordPieces
from carnelian.errors import CheckpointError
from carnelian.formats.convolutional import weight_names
from carnelian.formats.nemo import CONFIGURATION, WEIGHTS, configuration_text
from carnelian.models.acoustic import AcousticModel
from carnelian.models.features import log_mel
from carnelian.models.layers import ACTIVATIONS, BlockSpec, ConvolutionalEncoder

#: what NeMo calls the files of a tokenizer: (setting, member of the archive)
TOKENIZER = {"model_path": "tokenizer.model", "vocab_path": "vocab.txt", "spe_tokenizer_vocab": "tokenizer.vocab"}


def tokenizer_members(alphabet: Alphabet) -> dict[str, bytes]:
    """The files of a tokenizer by their names in the archive; none for characters."""
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


def configuration_of(model: AcousticModel, recipe: Mapping[str, Any], alphabet: Alphabet) -> dict[str, Any]:
    """NeMo's configuration of one of our convolutional models; CheckpointError for what NeMo's ConvASREncoder cannot say."""
    encoder = model.encoder
    if not isinstance(encoder, ConvolutionalEncoder):
        raise CheckpointError(
            f"export nemo: the encoder is a {type(encoder).__name__}; Jasper, QuartzNet and their kin can be exported"
        )
    if encoder.front.layers:
        raise CheckpointError(
            "export nemo: the encoder begins with 2-D convolutions, which NeMo's ConvASREncoder does not have"
        )
    if recipe.get("criterion", {}).get("name", "ctc") != "ctc":
        raise CheckpointError("export nemo: the model was trained by ASG; NeMo knows CTC. Train one with CTC")
    features = feature_settings(recipe)
    block: Any = next(iter(encoder.blocks))
    activation = next(name for name, function in ACTIVATIONS.items() if function is block.activation)
    odd = {row.residual for row in encoder.specs} - {"none", "plain", "dense"}
    if activation not in ("relu", "swish") or type(block.convolutions[0].norm) is not nn.BatchNorm2d or odd:
        raise CheckpointError(
            "export nemo: NeMo's encoder has batch norm, the activations relu and swish, plain and dense residuals; this one has "
            f"{activation}, {type(block.convolutions[0].norm).__name__}, {', '.join(sorted(odd)) or 'no odd residuals'}"
        )
    pieces = isinstance(alphabet, WordPieces)
    symbols = list(alphabet.symbols)
    kind = "ctc_bpe_models.EncDecCTCModelBPE" if pieces else "ctc_models.EncDecCTCModel"
    tokenizer = {"dir": None, "type": "bpe", **{key: f"nemo:{name}" for key, name in TOKENIZER.items()}}
    return {
        "target": f"nemo.collections.asr.models.{kind}",
        "nemo_version": {"floor": "2.5.0", "floor+1": "1.0.0", "ceil": "0.11.0"}[features["frame_count"]],
        "sample_rate": features["sample_rate"],
        **({"tokenizer": tokenizer} if pieces else {"labels": symbols}),
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
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "feat_in": features["features"],
            "activation": activation,
            "conv_mask": encoder.mask,
            "jasper": [entry_of(r) for r in encoder.specs],
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": encoder.channels,
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
    for name, standard in weight_names(model.encoder.specs):
        block, rest = standard.split(".", 1)
        tensor = ours[name]
        if tensor.ndim == 4:
            tensor = tensor.squeeze(2)
            if model.encoder.mask:  # NeMo wraps convolutions in ones that mask
                rest = rest.removesuffix("weight") + "conv.weight"
        weights[
            f"encoder.encoder.{block}.{rest.replace('conv.', 'mconv.', 1) if rest.startswith('conv.') else rest}"
        ] = tensor
    weights["decoder.decoder_layers.0.weight"] = model.head.weight[:, :, None]
    weights["decoder.decoder_layers.0.bias"] = model.head.bias
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


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
