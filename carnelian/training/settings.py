"""What a recipe may say, by task, and the check of it before anything is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from carnelian.errors import RecipeError
from carnelian.ranges import (
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    between,
)
from carnelian.recipe import Recipe, call, check_value, did_you_mean

#: what stands at the top of a recipe for an acoustic model, with its type
TOP_LEVEL: dict[str, Any] = {
    "task": str,
    "alphabet": str | list[str],
    "seed": Annotated[int, between(0, 2**31 - 1)],
    "time_stretches": list[float],
    **dict.fromkeys(
        ("train", "features", "masks", "augment", "encoder", "criterion", "optimizer", "schedule", "initialize"), dict
    ),
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The keys of [train] that every task has.

    Give `steps` of the optimizer, or `epochs`; a step takes `accumulate` batches. validation: files to validate on. precision: fp16
    and bf16 are mixed precision. clip: largest norm of the gradient (0: no limit). average: decay of a moving average of the weights,
    which is what is validated and saved (0: none). nonfinite: what to do with a step whose gradient is not finite. validate_every,
    save_every: steps (0: at the end only; then also every `save_minutes`). patience: validations in a row without a better result
    after which the run ends (0: never). keep_last, keep_best: checkpoints that are kept. price_per_hour: of the machine, for the cost
    in the summary.
    """

    steps: NonNegativeInt = 0
    epochs: NonNegativeInt = 0
    validation: list[str] = field(default_factory=list)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = ""
    accumulate: PositiveInt = 1
    clip: NonNegativeFloat = 0.0
    average: FractionBelowOne = 0.0
    nonfinite: Literal["skip", "stop"] = "skip"
    validate_every: NonNegativeInt = 0
    patience: NonNegativeInt = 0
    save_every: NonNegativeInt = 0
    save_minutes: PositiveFloat = 10.0
    keep_last: PositiveInt = 2
    keep_best: NonNegativeInt = 1
    price_per_hour: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.epochs > 0):
            raise RecipeError("[train] steps, epochs: give one of them, above 0")


@dataclass(frozen=True, kw_only=True)
class SpeechConfig(RunConfig):
    """The keys of [train] of every task that is trained on recordings.

    manifests: what to train on. mix: share of each of `manifests` in every batch (of utterances, or of seconds); an epoch is then one
    pass over the first of them. Give `batch_size` (utterances) or `batch_seconds` (of audio, padding included) for each batch of each
    process. min_duration, max_duration: seconds; utterances outside are left out. padding: share of a batch that may be padding.
    """

    manifests: list[str]
    mix: list[Fraction] = field(default_factory=list)
    batch_size: NonNegativeInt = 0
    batch_seconds: NonNegativeFloat = 0.0
    min_duration: NonNegativeFloat = 0.1
    max_duration: PositiveFloat = 16.7
    sorted_first_epoch: bool = False
    padding: Fraction = 0.05
    workers: NonNegativeInt = 2

    def __post_init__(self) -> None:
        if (self.batch_size > 0) == (self.batch_seconds > 0):
            raise RecipeError("[train] batch_size, batch_seconds: give one of them, above 0")
        super().__post_init__()
        if self.mix and (len(self.mix) != len(self.manifests) or not min(self.mix) > 0):
            raise RecipeError(
                f"[train] mix = {self.mix}: expected {len(self.manifests)} shares above 0, one for each of the manifests"
            )
        if self.mix and abs(sum(self.mix) - 1) > 0.01:
            raise RecipeError(f"[train] mix = {self.mix}: the shares add up to {sum(self.mix):g}. Make it 1")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(SpeechConfig):
    """The table [train] of an acoustic model: the keys above, and these.

    unknown_characters: largest share of the transcripts' characters that may be outside the alphabet. larc: trust of LARC, which
    scales the gradient layer by layer (0: not used). consistency: weight of the difference between two views of each utterance under
    different masks, added to the loss (CR-CTC, Yao et al., 2024: 0.2; 0: one view). checkpoint_activations: compute each block again
    in the backward pass, to save memory. sync_norm: batch norm over the batches of all processes. sharded: divide weights, gradients
    and optimizer state among the processes, for a model too large for one of them.
    """

    unknown_characters: Fraction = 0.05
    larc: NonNegativeFloat = 0.0
    consistency: NonNegativeFloat = 0.0
    compile: bool = False
    checkpoint_activations: bool = False
    sync_norm: bool = False
    sharded: bool = False


def check_top_level(recipe: Recipe, known: Mapping[str, Any], required: Sequence[str]) -> None:
    """Raises RecipeError for what a recipe of a task may not have at its top (`known`: type by name), and for what is missing."""
    task = f' with task = "{recipe["task"]}"' if isinstance(recipe.get("task"), str) else ""
    for table in recipe:
        if table not in known:
            raise RecipeError(f"[{table}]: a recipe{task} has no such table.{did_you_mean(table, known)}")
        check_value(recipe[table], known[table], where="recipe", key=table)
    for table in required:
        if table not in recipe:
            raise RecipeError(f"[{table}] is missing in the recipe. See recipes/ for whole ones")


def check_recipe(recipe: Recipe) -> TrainingConfig:
    """The table [train] of an acoustic recipe; RecipeError for what no part of the training knows."""
    check_top_level(recipe, TOP_LEVEL, ("train", "encoder", "optimizer", "schedule", "alphabet"))
    if recipe.get("task", "acoustic") != "acoustic":
        raise RecipeError(f'task = "{recipe["task"]}": this recipe is not for an acoustic model')
    settings = call(TrainingConfig, recipe["train"], where="train")
    if recipe.get("criterion", {}).get("name", "ctc") != "ctc":
        if settings.sharded:
            raise RecipeError(
                "[train] sharded: a criterion that learns cannot be divided. Remove the key, or train with CTC"
            )
        if settings.consistency:
            raise RecipeError(
                "[train] consistency compares the probabilities of CTC. Remove the key, or train with CTC"
            )
    if settings.larc and settings.clip:
        raise RecipeError("[train] larc, clip: both scale the gradient. Give one of them")
    if settings.sharded and settings.compile:
        raise RecipeError("[train] sharded, compile: not possible together. Give one of them")
    return settings


#: what stands at the top of a recipe for self-supervised training, with its type
PRETRAINING_TOP_LEVEL: dict[str, Any] = {
    **{key: TOP_LEVEL[key] for key in ("task", "seed")},
    **dict.fromkeys(
        ("train", "features", "encoder", "quantizer", "contrast", "prediction", "augment", "optimizer", "schedule"),
        dict,
    ),
}


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(SpeechConfig):
    """The table [train] of self-supervised training: the keys above, and these.

    max_samples: longest crop of a recording; a batch is cropped further, to its shortest recording.
    """

    max_duration: PositiveFloat = 3600.0
    max_samples: PositiveInt = 150_000


def check_pretraining_recipe(recipe: Recipe, tables: Sequence[str]) -> PretrainingConfig:
    """The table [train] of a recipe for self-supervised training; RecipeError for what no part of it knows.

    tables: those that this task reads beside [train], [features], [augment], [optimizer] and [schedule].
    """
    known = {key: PRETRAINING_TOP_LEVEL[key] for key in PRETRAINING_TOP_LEVEL}
    for table in {"encoder", "quantizer", "contrast", "prediction"} - set(tables):
        del known[table]
    check_top_level(recipe, known, ("train", "optimizer", "schedule"))
    return call(PretrainingConfig, recipe["train"], where="train")


#: what stands at the top of a recipe for a corrector, with its type
CORRECTOR_TOP_LEVEL: dict[str, Any] = {
    **{key: TOP_LEVEL[key] for key in ("task", "seed")},
    **dict.fromkeys(("train", "corrector", "initialize", "optimizer", "schedule"), dict),
}


@dataclass(frozen=True, kw_only=True)
class CorrectorConfig(RunConfig):
    """The table [train] of a corrector: the keys above, and these.

    pairs: files of hypotheses with their references. batch_tokens: pieces in a batch of each process, padding included. padding:
    share of a batch that may be padding. label_smoothing: share of the target that is spread over all pieces. unknown_words: largest
    share of the references' words that the vocabulary may be unable to spell.
    """

    pairs: list[str]
    batch_tokens: PositiveInt = 4096
    padding: Fraction = 0.05
    label_smoothing: FractionBelowOne = 0.1
    unknown_words: Fraction = 0.02


def check_corrector_recipe(recipe: Recipe) -> CorrectorConfig:
    """The table [train] of a recipe for a corrector; RecipeError for what no part of it knows."""
    check_top_level(recipe, CORRECTOR_TOP_LEVEL, ("train", "initialize", "optimizer", "schedule"))
    return call(CorrectorConfig, recipe["train"], where="train")


#: what stands at the top of a recipe for a language model, with its type
LANGUAGE_TOP_LEVEL: dict[str, Any] = {
    **{key: TOP_LEVEL[key] for key in ("task", "seed", "alphabet")},
    **dict.fromkeys(("train", "vocabulary", "model", "optimizer", "schedule"), dict),
}


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(RunConfig):
    """The table [train] of a language model: the keys above, and these.

    texts: text files, one sentence a line, plain or gzip, or manifests. context "text": the texts are one, cut into `batch_size` rows
    of which each batch takes the next `segment` tokens, with memory of those before; "sentence": each line alone, in batches of as
    many tokens, lines longer than `segment` in parts.
    """

    texts: list[str]
    batch_size: PositiveInt
    segment: PositiveInt = 150
    context: Literal["text", "sentence"] = "text"


def check_language_recipe(recipe: Recipe) -> LanguageConfig:
    """The table [train] of a recipe for a language model; RecipeError for what no part of it knows."""
    check_top_level(recipe, LANGUAGE_TOP_LEVEL, ("train", "model", "optimizer", "schedule"))
    if "alphabet" in recipe and "vocabulary" in recipe:
        raise RecipeError("alphabet, [vocabulary]: a language model is over symbols or over words. Remove one of them")
    return call(LanguageConfig, recipe["train"], where="train")
