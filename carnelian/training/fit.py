"""The one training loop. It knows nothing of speech: it is handed a model, a loss, batches and a schedule, and reports each step."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from carnelian.errors import RecipeError
from carnelian.training.distributed import divided_like, full_tensor, gathered, joined_rows, local_part, own_rows
from carnelian.training.optim import Schedule, scale_by_larc

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class DataPosition:
    """How far a training is: optimizer steps taken, the epoch, and the position of the next batch in the epoch."""

    step: int = 0
    epoch: int = 0
    position: int = 0

    def follow(self, epoch_batches: Callable[[int, int], Iterator]) -> Iterator:
        """Yields batches of one epoch after another, and counts them.

        `epoch_batches(epoch, start)` returns those of an epoch from `start` on.
        """
        while True:
            before = self.position
            for batch in epoch_batches(self.epoch, self.position):
                self.position += 1
                yield batch
            if before == self.position == 0:
                raise RecipeError("[train]: not one batch in an epoch. Give files with something in them to train on")
            self.epoch, self.position = self.epoch + 1, 0


@dataclass
class Training:
    """Everything that a run must save to go on exactly as if it had not stopped."""

    model: nn.Module
    optimizer: Optimizer
    position: DataPosition = field(default_factory=DataPosition)
    average: dict[str, Tensor] = field(default_factory=dict)  # exponential moving average of the weights, by name
    scaler: torch.amp.GradScaler | None = None
    #: carried from step to step by the loss, the rows of this process first
    carried: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns copies of the state, as tensors by name and as numbers; only those of the first process are complete.

        Where something is carried, or the model is sharded, all processes must call this.
        """
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for parameter, entries in self.optimizer.state.items():
            for key, value in entries.items():
                if value is not None:
                    tensors[f"optimizer.{names[parameter]}.{key}"] = torch.as_tensor(value)
        tensors |= {f"carried.{name}": joined_rows(tensor) for name, tensor in self.carried.items()}
        numbers: dict[str, Any] = vars(self.position).copy()
        if self.scaler is not None:
            numbers["scaler"] = self.scaler.state_dict()
        return gathered(tensors), numbers

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Sets the state to what `state` returned."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}, "carried": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        own = self.model.state_dict()
        self.model.load_state_dict(
            {name: divided_like(tensor, own.get(name)) for name, tensor in parts["model"].items()}
        )
        parameters = dict(self.model.named_parameters())
        device = next(iter(parameters.values())).device
        self.average = {
            name: divided_like(tensor, own.get(name)).to(device) for name, tensor in parts["average"].items()
        }
        self.carried = {name: own_rows(tensor).to(device) for name, tensor in parts["carried"].items()}
        self.optimizer.state.clear()
        for name, tensor in parts["optimizer"].items():
            name, _, key = name.rpartition(".")
            # Adam counts its steps on the CPU
            value = tensor if key == "step" else divided_like(tensor, parameters[name]).to(device)
            self.optimizer.state[parameters[name]][key] = value
        self.position.step, self.position.epoch, self.position.position = (
            numbers[key] for key in ("step", "epoch", "position")
        )
        if self.scaler is not None and "scaler" in numbers:
            self.scaler.load_state_dict(numbers["scaler"])

    def averaged(self) -> dict[str, Tensor]:
        """Returns the weights to validate and to save: the moving average where there is one, else the model's."""
        return {**self.model.state_dict(), **self.average}

    @torch.no_grad()
    def move_average(self, decay: float) -> None:
        """Moves the average towards the weights by 1 - decay, or faster in the first steps; it starts as the weights.

        The running statistics of norms are averaged too: those of the weights' own would not fit the averaged weights.
        """
        live = {name: tensor for name, tensor in self.model.state_dict().items() if tensor.is_floating_point()}
        if self.average.keys() != live.keys():
            self.average = {name: tensor.clone() for name, tensor in live.items()}
        decay = min(decay, (1 + self.position.step) / (10 + self.position.step))
        average = [local_part(tensor) for tensor in self.average.values()]
        torch._foreach_lerp_(average, [local_part(live[name]) for name in self.average], 1 - decay)


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: its mean loss, rate and gradient norm, the batches seen, and seconds taken and spent waiting for data.

    `idle` counts rows whose loss was exactly 0, from which nothing is learnt; `halved` says that memory did not suffice at first.
    """

    step: int
    loss: float
    rate: float
    gradient_norm: float
    batches: list
    seconds: float
    waited: float
    finite: bool = True
    loss_scale: float = 1.0
    idle: int = 0
    halved: bool = False


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
    wrapped: nn.Module | None = None,
    halves: Callable[[Any], list] | None = None,
) -> Iterator[StepReport]:
    """Trains, and yields a report after each step; the caller may then save, validate or stop.

    `loss(model, batch)` gives one value for each row of a batch; the gradient is that of the mean over the rows of a step, in all
    its `accumulate` batches on all processes. What the loss needs of the batch before it keeps in `training.carried`,
    which it replaces and does not change. `clip` bounds the gradient's norm, `larc` scales it layer by layer, `average` is
    the decay of a moving average of the weights (0: none of them). A step whose gradient is not finite leaves no trace. `wrapped`
    is the model as several processes train it, or compiled. A step that is out of memory is done once more on the `halves` of its
    batches, in one process; RecipeError where that does not help.
    """
    model, kind = training.model if wrapped is None else wrapped, torch.device(device).type
    autocast = torch.autocast(kind, PRECISIONS[precision], enabled=precision != "fp32")
    if precision == "fp16" and training.scaler is None:
        training.scaler = torch.amp.GradScaler(kind, init_scale=2.0**14, growth_interval=2000)
    scaler = training.scaler
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    position, stream = training.position, training.position.follow(epoch_batches)
    clock = time.perf_counter
    while position.step < steps:
        started = clock()
        before = vars(position).copy()
        try:
            batches = [next(stream) for _ in range(accumulate)]
        except BaseException:
            vars(position).update(before)  # no step has seen them
            raise
        waited = clock() - started
        rate = set_rate(training.optimizer, schedule(position.step))
        torch.manual_seed((seed * ranks + rank) * 1_000_003 + position.step)
        rows = sum(len(batch) for batch in batches)
        share = ranks / total_over_processes([rows], device)[0]
        buffers, carried = [buffer.clone() for buffer in training.model.buffers()], training.carried
        add = partial(add_gradients, model, loss=loss, share=share, scaler=scaler, autocast=autocast, device=device)
        (mean, idle), halved = in_memory(training, batches, add, buffers, halves if ranks == 1 else None)
        norm = update_weights(training, buffers, clip=clip, larc=larc, average=average)
        if not math.isfinite(norm):
            training.carried = carried
        position.step += 1
        scale = scaler.get_scale() if scaler else 1.0
        mean, idle = total_over_processes([mean / ranks, idle], device)
        seconds = clock() - started
        yield StepReport(
            position.step, mean, rate, norm, batches, seconds, waited, math.isfinite(norm), scale, int(idle), halved
        )


def update_weights(training: Training, buffers: list[Tensor], *, clip: float, larc: float, average: float) -> float:
    """Takes one optimizer step with the gradients of the model, and returns their norm before clipping.

    If the norm is not finite, the weights stay, and the model's buffers, which the forward pass has changed, become `buffers` again.
    """
    scaler = training.scaler
    if scaler:
        scaler.unscale_(training.optimizer)
    norm = full_tensor(nn.utils.clip_grad_norm_(list(training.model.parameters()), clip or float("inf")))
    if norm.isfinite():
        if larc:
            scale_by_larc(training.optimizer, trust=larc)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        if average:
            training.move_average(average)
    else:
        put_back(training, buffers)
    if scaler:
        scaler.update()  # halves on overflow, doubles after 2000 clean steps
        if scaler.get_scale() < 1:
            scaler.update(1.0)
    return float(norm)


def add_gradients(
    model: nn.Module, batches: list, loss: Callable, share: float, scaler: Any, autocast: Any, device: str
) -> list[float]:
    """Adds to the gradients those of the batches' losses times `share`; gives these losses' sum, and how many were 0."""
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    for index, batch in enumerate(batches):
        with waiting(model, until=index == len(batches) - 1), autocast:
            losses = loss(model, batch.to(device))
            total = losses.sum() * share
            (scaler.scale(total) if scaler else total).backward()
        sums += torch.stack([total.detach(), (losses.detach() == 0).sum()])
    return sums.tolist()


def in_memory(
    training: Training,
    batches: list,
    add: Callable[[list], list[float]],
    buffers: list[Tensor],
    halves: Callable | None,
) -> tuple[list[float], bool]:
    """What `add` gives of the batches; of their halves, and True, where memory does not suffice for them whole."""
    try:
        return add(batches), False
    except torch.OutOfMemoryError as error:
        if halves is None:
            raise RecipeError(OUT_OF_MEMORY.format(step=training.position.step + 1, error=error)) from None
    put_back(training, buffers)
    return in_memory(training, [half for batch in batches for half in halves(batch)], add, buffers, None)[0], True


OUT_OF_MEMORY = (
    "step {step}: out of memory ({error}). Lower [train] batch_size, batch_seconds or batch_tokens and raise accumulate to make up "
    "for it, or set checkpoint_activations"
)


@torch.no_grad()
def put_back(training: Training, buffers: list[Tensor]) -> None:
    """Takes away the gradients of a step, and what it did to the model's buffers."""
    training.optimizer.zero_grad(set_to_none=True)
    for buffer, old in zip(training.model.buffers(), buffers):
        buffer.copy_(old)


def set_rate(optimizer: Optimizer, rate: float) -> float:
    """Sets the learning rate; a group of parameters may have a `factor` of its own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    return rate


def waiting(model: nn.Module, *, until: bool) -> Any:
    """While open, gradients of a model on several processes are summed at home only, unless `until`."""
    synchronised = until or not hasattr(model, "no_sync")
    return torch.enable_grad() if synchronised else model.no_sync()  # type: ignore[operator]


def total_over_processes(values: Sequence[float], device: str = "cpu") -> list[float]:
    """Each number's sum over all processes; exact for whole numbers."""
    if not distributed.is_initialized():
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(totals)
    return totals.tolist()
