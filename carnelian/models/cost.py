"""What an acoustic model costs, layer by layer: parameters, multiply-adds, memory.

Computed from shapes alone, so that models of any size can be described.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carnelian.models.acoustic import AcousticModel, count_parameters
from carnelian.models.block_spec import BlockSpec
from carnelian.models.conv2d import Conv2dFrontEnd
from carnelian.models.layers import Convolution

OPTIMIZER_STATES = {"novograd": 1, "sgd": 1, "muon": 1}
"""Numbers that an optimizer keeps for each weight; the others keep 2."""
WEIGHTED = (Convolution, nn.Conv1d, nn.Conv2d, nn.Linear, nn.GRU)


@dataclass(frozen=True)
class Layer:
    """A layer of a model: its parameters, and its multiply-adds per second of audio."""

    name: str
    description: str
    parameters: int
    multiply_adds: float


@dataclass(frozen=True)
class Cost:
    """The layers of a model, and the bytes of activations that a training step keeps: per second of audio, and fixed."""

    layers: list[Layer]
    activation_bytes: float
    fixed_bytes: float

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds per second of audio, without the front end."""
        return sum(layer.multiply_adds for layer in self.layers)

    def training_bytes(self, batch_seconds: float, states: int) -> float:
        """Returns the bytes of a training step in 32-bit floats: weights, gradients, `states` numbers of the optimizer
        per weight, activations."""
        return 4 * self.parameters * (2 + states) + self.fixed_bytes + self.activation_bytes * batch_seconds


def describe_block(spec: BlockSpec) -> str:
    """Returns a block of convolutions in a few words."""
    words = [f"{spec.repeat} x " * (spec.repeat > 1) + f"{spec.channels} channels, kernel {spec.kernel}"]
    words += ["separable"] * spec.separable
    words += [f"{name} {value}" for name, value in (("stride", spec.stride), ("dilation", spec.dilation)) if value > 1]
    words += [f"{spec.groups} groups"] * (spec.groups > 1) + ["squeeze-and-excitation"] * bool(spec.excitation)
    words += [f"residual {spec.residual}"] * (spec.residual != "none")
    return ", ".join(words)


def describe_conv2d(front: Conv2dFrontEnd) -> str:
    """Returns a front end of 2-D convolutions in a few words."""
    return "2-D convolutions: " + ", ".join(
        f"{layer.channels} channels, kernel {layer.kernel[0]} x {layer.kernel[1]}, stride {layer.stride[0]} x {layer.stride[1]}"
        for layer in front.layers
    )


def parts(model: AcousticModel) -> Iterator[tuple[str, str, nn.Module]]:
    """Yields name, description and module of each layer, in order; each entry of a list of layers is one."""
    rows = iter(getattr(model.encoder, "specs", ()))
    for name, module in [("features", model.features), *model.encoder.named_children(), ("head", model.head)]:
        several = isinstance(module, nn.ModuleList)
        for index, layer in enumerate(module) if several else [("", module)]:
            if count_parameters(layer):
                row = next(rows, None) if several else None
                if isinstance(row, BlockSpec):
                    kind = describe_block(row)
                elif isinstance(layer, Conv2dFrontEnd):
                    kind = describe_conv2d(layer)
                else:
                    kind = type(layer).__name__.removeprefix("Parametrized")
                shape = getattr(layer, "weight", None)
                sized = f" {' x '.join(map(str, shape.shape))}" if row is None and shape is not None else ""
                yield f"{name} {index}".strip(), kind + sized, layer


def weights_used(module: nn.Module) -> int:
    """Returns the multiply-adds for one position of a module's output."""
    if isinstance(module, nn.GRU):
        return sum(weight.numel() for weight in module.parameters() if weight.dim() > 1)
    return module.weight.numel()  # type: ignore[operator, union-attr, return-value]


def encode(model: AcousticModel, seconds: float) -> None:
    """Runs encoder and head in training mode on features of `seconds` of silence."""
    frames, device = round(seconds / model.features.hop), model.head.weight.device
    features = torch.zeros(1, model.features.channels, frames, device=device)
    encoded, _ = model.encoder.train()(features, torch.full((1,), frames, device=device))
    model.head(encoded.transpose(1, 2)).log_softmax(-1)


def bytes_kept(model: AcousticModel, seconds: float) -> int:
    """Returns the bytes that a forward pass keeps for the backward pass, without the model's weights."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encode(model, seconds)
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)


def multiply_adds(model: AcousticModel, seconds: float) -> Counter[nn.Module]:
    """Returns the multiply-adds of each module of encoder and head for `seconds` of audio."""
    counted: Counter[nn.Module] = Counter()

    def count(module: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
        encoded = output[0] if isinstance(output, tuple) else output
        channels = encoded.shape[-1 if isinstance(module, nn.Linear | nn.GRU) else 1]
        counted[module] += encoded.numel() // channels * weights_used(module)

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, WEIGHTED)]
    with torch.no_grad():
        encode(model, seconds)
    for hook in hooks:
        hook.remove()
    return counted


def measure_cost(model: AcousticModel, *, seconds: float = 2.0) -> Cost:
    """Returns the cost of a model. On the meta device only shapes are computed."""
    # the difference between twice the time and once leaves out padding at the ends and whatever is done once
    little, much = multiply_adds(model, seconds), multiply_adds(model, 2 * seconds)
    once, twice = bytes_kept(model, seconds), bytes_kept(model, 2 * seconds)
    layers = [
        Layer(
            name,
            description,
            count_parameters(layer),
            sum(much[module] - little[module] for module in layer.modules()) / seconds,
        )
        for name, description, layer in parts(model)
    ]
    return Cost(layers, (twice - once) / seconds, 2 * once - twice)
