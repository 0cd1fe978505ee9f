"""What a recipe for an acoustic model may say, and the check of it before anything is done."""

from dataclasses import dataclass, field

from carnelian.errors import RecipeError
from carnelian.recipe import Recipe, call, did_you_mean
from carnelian.training.fit import PRECISIONS

TABLES = (
    "task",
    "alphabet",
    "seed",
    "time_stretches",
    "train",
    "features",
    "masks",
    "augment",
    "encoder",
    "criterion",
    "optimizer",
    "schedule",
    "initialize",
)


@dataclass(frozen=True)
class TrainingConfig:
    """The table [train]. Seconds and steps; `batch_size` utterances or `batch_seconds` for each batch of each process.

    Validation comes every so many steps and at the end, checkpoints after it, every `save_minutes`, and every `save_every` steps.
    `average` is the decay of a moving average of the weights, `larc` the trust in it, `patience` the validations without a better
    one after which the run ends (0: none of them). `nonfinite` says what a step without a finite gradient does: "skip" or "stop".
    With `consistency` every utterance is seen twice at each step, under masks of its own, and that many times the difference
    between what is made of the two is added to the loss (CR-CTC; 0.2 there). `sharded` divides weights, gradients and optimizer
    state among the processes, for a model too large for one of them.
    """

    manifests: list[str]
    steps: int = 0
    epochs: int = 0
    validation: list[str] = field(default_factory=list)
    batch_size: int = 0
    batch_seconds: float = 0.0
    min_duration: float = 0.1
    max_duration: float = 16.7
    sorted_first_epoch: bool = False
    padding: float = 0.05
    precision: str = "fp32"
    device: str = ""
    workers: int = 2
    accumulate: int = 1
    clip: float = 0.0
    larc: float = 0.0
    average: float = 0.0
    consistency: float = 0.0
    nonfinite: str = "skip"
    compile: bool = False
    checkpoint_activations: bool = False
    sync_norm: bool = False
    sharded: bool = False
    validate_every: int = 0
    patience: int = 0
    save_every: int = 0
    save_minutes: float = 10.0
    keep_last: int = 2
    keep_best: int = 1


def check_recipe(recipe: Recipe) -> TrainingConfig:
    """The table [train] of an acoustic recipe; RecipeError for what no part of the training knows."""
    for table in recipe:
        if table not in TABLES:
            raise RecipeError(f"[{table}]: a recipe has no such table.{did_you_mean(table, TABLES)}")
    if recipe.get("task", "acoustic") != "acoustic":
        raise RecipeError(f'task = "{recipe["task"]}": this recipe is not for an acoustic model')
    for table in ("train", "encoder", "optimizer", "schedule", "alphabet"):
        if table not in recipe:
            raise RecipeError(f"[{table}] is missing in the recipe. See recipes/ for whole ones")
    settings = call(TrainingConfig, recipe["train"], where="train", name="train")
    if (settings.batch_size > 0) == (settings.batch_seconds > 0):
        raise RecipeError("[train] batch_size, batch_seconds: give one of them, above 0")
    if (settings.steps > 0) == (settings.epochs > 0):
        raise RecipeError("[train] steps, epochs: give one of them, above 0")
    for key, known in (("precision", PRECISIONS), ("nonfinite", ("skip", "stop"))):
        value = getattr(settings, key)
        if value not in known:
            raise RecipeError(f'[train] {key} = "{value}": no such choice.{did_you_mean(value, known)}')
    for key in ("accumulate", "keep_last"):
        if getattr(settings, key) < 1:
            raise RecipeError(f"[train] {key} = {getattr(settings, key)}: expected 1 or more")
    if recipe.get("criterion", {}).get("name", "ctc") != "ctc":
        if settings.sharded:
            raise RecipeError(
                "[train] sharded: a criterion that learns cannot be divided. Take the key away, or train with CTC"
            )
        if settings.consistency:
            raise RecipeError(
                "[train] consistency compares the probabilities of CTC. Take the key away, or train with CTC"
            )
    if settings.larc and settings.clip:
        raise RecipeError("[train] larc, clip: both scale the gradient. Give one of them")
    if settings.sharded and settings.compile:
        raise RecipeError("[train] sharded, compile: not possible together. Give one of them")
    return settings
