"""What NVIDIA's toolkits call the weights of Jasper, QuartzNet and Citrinet, and what we call them.

A block is a list of modules numbered through in both NeMo (modules/conv_asr.py, submodules/jasper.py) and DeepLearningExamples
(jasper/model.py, quartznet/model.py); only the words around the numbers differ, so that one spelling stands for all of them:
`3.conv.5.weight`, `3.res.0.1.running_mean`, `head.bias`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from carnelian.errors import CheckpointError
from carnelian.models.block_spec import BlockSpec
from carnelian.models.layers import ConvolutionalEncoder

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BLOCK_NAME = re.compile(
    r"(?:module\.)?(?:encoder\.)+(?:layers\.)?(\d+)\.(?:mconv|conv)\.(\d+)\.(?:conv\.)?(fc\.\d\.weight|\w+)"
)
RESIDUAL = re.compile(r"(?:module\.)?(?:encoder\.)+(?:layers\.)?(\d+)\.res\.(\d+)\.(\d+)\.(?:conv\.)?(\w+)")
HEAD = re.compile(r"(?:module\.)?(?:decoder\.)?(?:decoder_layers|layers)\.0\.(weight|bias)")
#: what comes with the weights and is computed anew, or belongs to training
LEFT_OUT = re.compile(r"(?:module\.)?(preprocessor|data_preprocessor|spec_aug\w*|loss|_wer|wer)\b.*")


def standard_name(name: str) -> str | None:
    """A weight's name in the one spelling; None for a name that no convolutional CTC model has."""
    if found := BLOCK_NAME.fullmatch(name):
        return f"{found[1]}.conv.{found[2]}.{found[3]}"
    if found := RESIDUAL.fullmatch(name):
        return f"{found[1]}.res.{found[2]}.{found[3]}.{found[4]}"
    if found := HEAD.fullmatch(name):
        return f"head.{found[1]}"
    return None


def standard_names(where: str | Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the one spelling; CheckpointError for a module that is in no such model."""
    named = {}
    for name, tensor in weights.items():
        if LEFT_OUT.fullmatch(name):
            continue
        standard = standard_name(name)
        if standard is None:
            raise CheckpointError(
                f'{where}: holds "{name}", of a module that is unknown here. '
                "Jasper, QuartzNet and Citrinet with a convolutional CTC decoder are read"
            )
        named[standard] = tensor
    return named


def weight_names(specs: Sequence[BlockSpec]) -> Iterator[tuple[str, str]]:
    """(our name in the encoder, the one spelling) of every tensor of the specs, in NeMo's order."""
    dense = 0
    for block, row in enumerate(specs):
        dense = dense + 1 if row.residual == "dense" else 0
        parts = ["depthwise", "convolution"] if row.separable else ["convolution"]
        shuffles = row.groups > 1
        position = 0
        for index in range(row.repeat):
            ours = f"blocks.{block}.convolutions.{index}"
            for part in parts:
                yield f"{ours}.{part}.weight", f"{block}.conv.{position}.weight"
                position += 1
            for leaf in NORM:
                yield f"{ours}.norm.{leaf}", f"{block}.conv.{position}.{leaf}"
            position += 1 + shuffles + 2  # the norm, the shuffle, the activation, the dropout
        if row.excitation:  # in the place of the last activation
            yield f"blocks.{block}.excitation.squeeze.weight", f"{block}.conv.{position - 2}.fc.0.weight"
            yield f"blocks.{block}.excitation.expand.weight", f"{block}.conv.{position - 2}.fc.2.weight"
        for source in range({"none": 0, "plain": 1, "dense": dense}[row.residual]):
            ours = f"blocks.{block}.residuals.{source}"
            yield f"{ours}.convolution.weight", f"{block}.res.{source}.0.weight"
            for leaf in NORM:
                yield f"{ours}.norm.{leaf}", f"{block}.res.{source}.1.{leaf}"


def encoder_weights(
    where: str | Path, named: Mapping[str, Tensor], features: int, specs: Sequence[BlockSpec]
) -> dict[str, Tensor]:
    """Our encoder's weights from standard names; CheckpointError for one missing, of another shape, or left over."""
    with torch.device("meta"):  # only shapes are wanted, and the specs may come from a hostile file
        expected = ConvolutionalEncoder(features, specs).state_dict()
    weights = {}
    for ours, standard in weight_names(specs):
        if standard not in named:
            raise CheckpointError(
                f"{where}: the weight {standard} is missing. Its configuration asks for it; is the file whole?"
            )
        tensor, shape = named[standard], expected[ours].shape
        # ours have a height of one between channels and time
        found = tensor.unsqueeze(2) if len(shape) == 4 and tensor.ndim == 3 else tensor
        if found.shape != shape:
            wanted = tuple(shape[:2] + shape[3:]) if len(shape) == 4 else tuple(shape)
            raise CheckpointError(
                f"{where}: the weight {standard} is of shape {tuple(tensor.shape)}, its configuration asks for {wanted}"
            )
        weights[ours] = found.contiguous()
    left = sorted(named.keys() - {standard for _, standard in weight_names(specs)} - {"head.weight", "head.bias"})
    if left:
        raise CheckpointError(
            f"{where}: holds {left[0]} ({len(left)} such), of a module that its configuration has not"
        )
    return weights


def head_weights(where: str | Path, named: Mapping[str, Tensor], channels: int, symbols: int) -> dict[str, Tensor]:
    """Our head's weights; `symbols` counts the alphabet without the blank, which stands last in NVIDIA's models as in ours."""
    for leaf, shape in (("weight", (symbols + 1, channels, 1)), ("bias", (symbols + 1,))):
        if f"head.{leaf}" not in named:
            raise CheckpointError(
                f"{where}: the decoder's {leaf} is missing. A recognizer needs an encoder and a decoder"
            )
        found = tuple(named[f"head.{leaf}"].shape)
        if found != shape:
            raise CheckpointError(
                f"{where}: the decoder's {leaf} is of shape {found}; {symbols} symbols and a blank ask for {shape}"
            )
    return {"head.weight": named["head.weight"].squeeze(2).contiguous(), "head.bias": named["head.bias"]}


def model_weights(
    where: str | Path, named: Mapping[str, Tensor], features: int, specs: Sequence[BlockSpec], symbols: int
) -> dict[str, Tensor]:
    """An acoustic model's weights from standard names."""
    encoder = encoder_weights(where, named, features, specs)
    head = head_weights(where, named, specs[-1].channels, symbols)
    return {
        **{
            f"encoder.{name}": tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in encoder.items()
        },
        **head,
    }


def block_specs(where: str | Path, named: Mapping[str, Tensor]) -> tuple[int, list[BlockSpec]]:
    """(features, specs) as the weights' shapes tell them, for checkpoints that come without a configuration.

    Shapes do not tell strides and dilations; as in every Jasper and QuartzNet of the papers, the first row has stride 2 and the
    last one with a kernel has dilation 2. Dropout is left at 0.
    """
    blocks = sorted({int(name.split(".")[0]) for name in named if name[0].isdigit()})
    if blocks != list(range(len(blocks))) or not blocks:
        raise CheckpointError(
            f"{where}: its encoder's blocks are numbered {blocks}. Expected 0 and on; is the file whole?"
        )
    sources = [
        sum(name.startswith(f"{block}.res.") and name.endswith(".0.weight") for name in named) for block in blocks
    ]
    dense = [count > 1 or (count == 1 and following == 2) for count, following in zip(sources, [*sources[1:], 0])]
    specs = []
    for block in blocks:
        convolutions = {
            int(name.split(".")[2]): tuple(tensor.shape)
            for name, tensor in named.items()
            if name.startswith(f"{block}.conv.") and tensor.ndim == 3
        }
        if 0 not in convolutions:
            raise CheckpointError(f"{where}: the weight {block}.conv.0.weight is missing. Is the file whole?")
        first, separable = convolutions[0], 1 in convolutions
        middle = [
            tensor.shape for name, tensor in named.items() if re.fullmatch(rf"{block}\.conv\.\d+\.fc\.0\.weight", name)
        ]
        specs.append(
            BlockSpec(
                channels=convolutions[1][0] if separable else first[0],
                kernel=first[2],
                repeat=len(convolutions) // (2 if separable else 1),
                residual=("dense" if dense[block] else "plain") if sources[block] else "none",
                separable=separable,
                groups=first[0] // convolutions[1][1] if separable else 1,
                excitation=middle[0][1] // middle[0][0] if middle else 0,
            )
        )
    wide = [index for index, row in enumerate(specs) if row.kernel > 1]
    features = named["0.conv.0.weight"].shape[0 if specs[0].separable else 1]
    return features, [
        BlockSpec(**{**vars(row), "stride": 2 if index == 0 else 1, "dilation": 2 if index == wide[-1] != 0 else 1})
        for index, row in enumerate(specs)
    ]
