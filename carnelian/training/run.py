"""A run in its folder: what it saves, scores, and finds again when it goes on."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from carnelian import console
from carnelian.checkpoint import Checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.errors import CheckpointError
from carnelian.files import written
from carnelian.models.acoustic import AcousticModel
from carnelian.models.registry import build_model
from carnelian.recipe import Recipe
from carnelian.training.checkpoints import Checkpoints
from carnelian.training.distributed import (
    World,
    full_tensor,
    gathered,
    highest_over_processes,
    is_sharded,
    share_buffers,
)
from carnelian.training.fit import Training
from carnelian.training.log import Log


@dataclass(frozen=True)
class Score:
    """What a validation gives: the rate to be low, and pairs of reference and hypothesis to look at."""

    rate: float
    examples: list[tuple[str, str]]


#: validate(model, alphabet, stop): the score, or None where `stop()` said to leave; alike on all processes
Validate = Callable[[AcousticModel, Alphabet, Callable[[], int]], Score | None]


@dataclass
class Run:
    """A training in a folder. The first of its processes alone writes there; all of them read."""

    folder: Path
    recipe: Recipe
    alphabet: Alphabet
    training: Training
    checkpoints: Checkpoints
    log: Log
    world: World
    validate: Validate | None = None
    saved: float = field(default_factory=time.monotonic)
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return self.training.position.step

    def resume(self) -> None:
        """Goes back to the last checkpoint, where there is one."""
        last = max(self.checkpoints.steps(), default=-1)
        last = int(highest_over_processes([last], self.world.device)[0])  # what one sees is there for all
        if last >= 0:
            self.training.restore(*self.checkpoints.state(last))
        self.scores = {step: score for step, score in self.checkpoints.scores().items() if step <= self.step}

    def save(self) -> None:
        """Starts writing a checkpoint, unless this step has one."""
        self.saved = time.monotonic()
        saved = self.step in self.checkpoints.steps()
        if is_sharded(self.training.model):  # all gather what is saved, or none
            saved = bool(highest_over_processes([saved], self.world.device)[0])
        elif self.world.rank:
            return
        if saved:
            return
        weights, state = gathered(self.training.averaged()), self.training.state()
        if self.world.rank:
            return
        score = self.scores.get(self.step)
        more = {} if score is None else {"validation_wer": score}
        self.checkpoints.save(Checkpoint(weights, self.alphabet, self.recipe, self.step, more), *state)

    @contextmanager
    def published(self) -> Iterator[AcousticModel]:
        """The model in evaluation mode with the weights that would be published; of a sharded one a whole copy."""
        model: AcousticModel = self.training.model  # type: ignore[assignment]
        weights = self.training.averaged()
        if is_sharded(model):
            model = build_model(self.recipe, self.alphabet).to(self.world.device)
            for name, tensor in model.state_dict().items():
                tensor.copy_(full_tensor(weights[name]))
            share_buffers(model)
            yield model.eval()
            return
        modes = {module: module.training for module in model.modules()}
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(weights)
        share_buffers(model)
        yield model.eval()
        model.load_state_dict(own)
        for module, mode in modes.items():
            module.training = mode

    def score(self, stop: Callable[[], int]) -> bool:
        """Validates the weights that would be published, and notes the score; False where told to stop before the end."""
        assert self.validate
        with self.published() as model:
            result = self.validate(model, self.alphabet, stop)
        if result is None:
            return False
        self.scores[self.step] = result.rate
        if self.world.rank == 0:
            self.checkpoints.note_scores(self.scores)
        self.log.write(self.step, validation_wer=result.rate, examples=result.examples)
        console.note(f"step {self.step}: validation WER {100 * result.rate:.2f} %")
        for reference, hypothesis in result.examples:
            console.note(f"    said:  {reference}\n    heard: {hypothesis}")
        return True

    def waited_enough(self, patience: int) -> bool:
        """Whether so many validations have brought nothing better than the one before them; never with a patience of 0."""
        scores = [self.scores[step] for step in sorted(self.scores)]
        return bool(patience and scores) and len(scores) - 1 - scores.index(min(scores)) >= patience


def keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe into a run's folder; CheckpointError if the folder holds a run of another recipe."""
    path = folder / "recipe.json"
    mine = json.dumps(recipe, indent=2, ensure_ascii=False)
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(mine):
        raise CheckpointError(
            f"{folder}: holds a run of another recipe (recipe.json differs). Give another --out folder"
        )
    with written(path) as file:
        file.write(mine)
