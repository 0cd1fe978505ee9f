"""The one training loop. It knows nothing of speech: it is handed a model, a loss, batches and a schedule, and reports each step."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from carnelian.errors import RecipeError
from carnelian.training.optim import Schedule, scale_by_larc

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Place:
    """Where a training stands: optimizer steps taken, and the next batch as its position in an epoch."""

    step: int = 0
    epoch: int = 0
    position: int = 0

    def follow(self, epoch_batches: Callable[[int, int], Iterator]) -> Iterator:
        """Batches for ever; the place moves on with each. `epoch_batches(epoch, start)` gives one epoch's from `start` on."""
        while True:
            before = self.position
            for batch in epoch_batches(self.epoch, self.position):
                self.position += 1
                yield batch
            if before == self.position == 0:
                raise RecipeError("[train] manifests: not one batch in an epoch. Give a manifest with utterances in it")
            self.epoch, self.position = self.epoch + 1, 0


@dataclass
class Training:
    """All that a run must keep to go on as if it had never stopped."""

    model: nn.Module
    optimizer: Optimizer
    place: Place = field(default_factory=Place)
    average: dict[str, Tensor] = field(default_factory=dict)  # exponential moving average of the weights, by name
    scaler: torch.amp.GradScaler | None = None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state as tensors by name and as numbers, from which `restore` goes on; the tensors are copies."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for parameter, entries in self.optimizer.state.items():
            for key, value in entries.items():
                if value is not None:
                    tensors[f"optimizer.{names[parameter]}.{key}"] = torch.as_tensor(value)
        numbers: dict[str, Any] = vars(self.place).copy()
        if self.scaler is not None:
            numbers["scaler"] = self.scaler.state_dict()
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}, numbers

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Goes back to a state that `state` gave."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        parameters = dict(self.model.named_parameters())
        device = next(iter(parameters.values())).device
        self.average = {name: tensor.to(device) for name, tensor in parts["average"].items()}
        self.optimizer.state.clear()
        for name, tensor in parts["optimizer"].items():
            parameter, _, key = name.rpartition(".")
            # Adam counts its steps on the CPU
            self.optimizer.state[parameters[parameter]][key] = tensor if key == "step" else tensor.to(device)
        self.place.step, self.place.epoch, self.place.position = (numbers[key] for key in ("step", "epoch", "position"))
        if self.scaler is not None and "scaler" in numbers:
            self.scaler.load_state_dict(numbers["scaler"])

    def averaged(self) -> dict[str, Tensor]:
        """The weights to evaluate and to publish: the moving average where there is one, the model's own otherwise."""
        return {**self.model.state_dict(), **self.average}

    @torch.no_grad()
    def move_average(self, decay: float) -> None:
        """Moves the average by 1 - decay towards the weights; it starts as the weights."""
        parameters = dict(self.model.named_parameters())
        if not self.average:
            self.average = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            return
        averages = list(self.average.values())
        torch._foreach_lerp_(averages, [parameters[name].detach() for name in self.average], 1 - decay)


@dataclass(frozen=True, slots=True)
class Report:
    """One step: its mean loss, rate and gradient norm, the batches seen, and seconds taken and spent waiting for data."""

    step: int
    loss: float
    rate: float
    gradient_norm: float
    batches: list
    seconds: float
    waited: float
    finite: bool = True
    loss_scale: float = 1.0


def fit(
    training: Training,
    *,
    epoch_batches: Callable[[int, int], Iterator],
    loss: Callable[[nn.Module, Any], Tensor],
    schedule: Schedule,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    accumulate: int = 1,
    clip: float = 0.0,
    larc: float = 0.0,
    average: float = 0.0,
    nonfinite: str = "skip",
    wrapped: nn.Module | None = None,
) -> Iterator[Report]:
    """Trains, and reports each step, after which the caller may save, validate or leave.

    `loss(model, batch)` gives one value for each row of a batch; the gradient is that of the mean over the rows of a step, in all
    its `accumulate` batches on all processes. `clip` bounds the gradient's norm, `larc` scales it layer by layer, `average` is
    the decay of a moving average of the weights (0: none of them). A step whose gradient is not finite leaves no trace
    (`nonfinite` "skip") or ends the run ("stop"). `wrapped` is the model as several processes train it.
    """
    model = wrapped or training.model
    kind = torch.device(device).type
    autocast = torch.autocast(kind, PRECISIONS[precision], enabled=precision != "fp32")
    if precision == "fp16" and training.scaler is None:
        training.scaler = torch.amp.GradScaler(kind, init_scale=2.0**14, growth_interval=2000)
    parameters = [parameter for parameter in training.model.parameters() if parameter.requires_grad]
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    place, stream = training.place, training.place.follow(epoch_batches)
    clock = time.perf_counter
    while place.step < steps:
        started = clock()
        batches = [next(stream) for _ in range(accumulate)]
        waited = clock() - started
        rate = set_rate(training.optimizer, schedule(place.step))
        torch.manual_seed((seed * ranks + rank) * 1_000_003 + place.step)
        rows = sum(len(batch) for batch in batches)
        share = ranks / total_over_processes(rows, device) if ranks > 1 else 1 / rows
        buffers = [buffer.clone() for buffer in training.model.buffers()]
        summed = torch.zeros((), device=device)
        for index, batch in enumerate(batches):
            with waiting(model, until=index == accumulate - 1), autocast:
                losses = loss(model, batch.to(device)).sum() * share
                (training.scaler.scale(losses) if training.scaler else losses).backward()
            summed += losses.detach()
        if training.scaler:
            training.scaler.unscale_(training.optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, clip or float("inf"))
        finite = bool(norm.isfinite())
        if finite:
            if larc:
                scale_by_larc(training.optimizer, trust=larc)
            training.optimizer.step()
        else:  # the forward pass has been through the norms' running statistics
            for buffer, old in zip(training.model.buffers(), buffers):
                buffer.copy_(old)
        if training.scaler:
            training.scaler.update()  # halves on overflow, doubles after 2000 clean steps
        training.optimizer.zero_grad(set_to_none=True)
        place.step += 1
        if average and finite:
            training.move_average(average)
        scale = training.scaler.get_scale() if training.scaler else 1.0
        mean = float(summed) if ranks == 1 else total_over_processes(float(summed), device) / ranks
        yield Report(place.step, mean, rate, float(norm), batches, clock() - started, waited, finite, scale)
        if not finite and nonfinite == "stop" and not training.scaler:
            return


def set_rate(optimizer: Optimizer, rate: float) -> float:
    """Sets the learning rate; a group of parameters may have a `factor` of its own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    return rate


def waiting(model: nn.Module, *, until: bool) -> Any:
    """While open, gradients of a model on several processes are summed at home only, unless `until`."""
    synchronised = until or not hasattr(model, "no_sync")
    return torch.enable_grad() if synchronised else model.no_sync()  # type: ignore[operator]


def total_over_processes(value: float, device: str) -> float:
    """The sum of a number over all processes."""
    total = torch.tensor(float(value), dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total)
