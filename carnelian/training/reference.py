"""The recipe reference: every key of every table with its type, range and default, read from the signatures that check them."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from carnelian.data.augment import AUGMENTATIONS
from carnelian.errors import RecipeError
from carnelian.models.block_spec import BlockSpec
from carnelian.models.conv2d import Conv2dLayer
from carnelian.models.losses.contrastive import future_predictions, masked_contrast
from carnelian.models.pretraining.best_rq import masked_prediction
from carnelian.models.pretraining.quantizer import gumbel_quantizer
from carnelian.models.registry import CRITERIA, ENCODERS, FEATURES, MASKS, NEURAL_LANGUAGE_MODELS
from carnelian.models.text.bert import BertConfig
from carnelian.recipe import as_table, check_keys, chosen, did_you_mean, in_short, settings_of, type_in_words
from carnelian.training.initialize import Initialization
from carnelian.training.optim import OPTIMIZERS, SCHEDULES
from carnelian.training.settings import CorrectorConfig, LanguageConfig, PretrainingConfig, TrainingConfig
from carnelian.training.tasks.corrector import CorrectorInitialization
from carnelian.training.tasks.text_corpus import choose_words

#: table of a recipe: (what it is, the functions that it may name or the one that it fills, arguments that the program gives)
REFERENCE: dict[str, tuple[str, Mapping[str, Callable] | Callable, tuple[str, ...]]] = {
    "train": ("what to train on, for how long, and what is kept", TrainingConfig, ()),
    "train_corrector": ("[train] of the task `corrector`", CorrectorConfig, ()),
    "train_wav2vec": (
        "[train] of self-supervised training: the tasks `wav2vec`, `wav2vec2` and `best_rq`",
        PretrainingConfig,
        (),
    ),
    "train_language": ("[train] of a language model: the task `language`", LanguageConfig, ()),
    "vocabulary": ("the words of a language model; without this table all of its texts", choose_words, ("text",)),
    "model": ("the network of a language model", NEURAL_LANGUAGE_MODELS, ("tokens",)),
    "features": ("the front end, from waveforms to features", FEATURES, ()),
    "masks": ("masks on the features while training, one table for each: [masks.spec_augment]", MASKS, ()),
    "augment": (
        "changes of the waveforms while training, one table for each: [augment.speed]",
        AUGMENTATIONS,
        ("sample_rate",),
    ),
    "encoder": ("the network, from features to encoded steps", ENCODERS, ("features",)),
    "encoder.blocks": ("a block of `convolutional`", BlockSpec, ()),
    "encoder.conv2d": ("a 2-D convolution before the blocks of `convolutional`", Conv2dLayer, ()),
    "criterion": ("the loss; CTC without this table", CRITERIA, ("symbols",)),
    "quantizer": ("the quantiser of the task `wav2vec2`", gumbel_quantizer, ("inputs",)),
    "contrast": (
        "the objective of self-supervised training, by task",
        {"wav2vec": future_predictions, "wav2vec2": masked_contrast},
        ("channels", "offset", "context", "codes"),
    ),
    "prediction": ("the objective of the task `best_rq`", masked_prediction, ("features", "encoder")),
    "optimizer": ("how the weights are changed", OPTIMIZERS, ("parameters",)),
    "schedule": ("the learning rate over the steps", SCHEDULES, ("steps",)),
    "initialize": ("an earlier model to begin with", Initialization, ()),
    "initialize_corrector": ("[initialize] of the task `corrector`", CorrectorInitialization, ()),
    "corrector": ("the sizes of a corrector, by default those of what it begins with", BertConfig, ()),
}


@dataclass(frozen=True)
class ReferenceEntry:
    """What one function of a table does, and its keys: (key, type and range, default)."""

    table: str
    name: str
    description: str
    keys: tuple[tuple[str, str, str], ...]


def reference_entries(table: str) -> Iterator[ReferenceEntry]:
    """Yields the entries of a table of a recipe. Raises RecipeError for an unknown one."""
    if table not in REFERENCE:
        raise RecipeError(f"[{table}]: a recipe has no such table.{did_you_mean(table, REFERENCE)}")
    _, named, given = REFERENCE[table]
    functions = named if isinstance(named, Mapping) else {"": named}
    for name, function in functions.items():
        keys = tuple(
            (key, type_in_words(hint), default_of(function, key, parameter))
            for key, (hint, parameter) in settings_of(function, given).items()
        )
        yield ReferenceEntry(table, name, description_of(function), keys)


def description_of(function: Callable) -> str:
    """Returns the docstring of a function, or those of a dataclass and of what it extends."""
    classes = (
        [each for each in inspect.getmro(function) if each is not object] if inspect.isclass(function) else [function]
    )
    return "\n\n".join(inspect.getdoc(each) or "" for each in reversed(classes))


def check_tables(recipe: Mapping[str, Any]) -> None:
    """Raises RecipeError for a wrong name, key or value in any table of a recipe, before anything is built or read."""
    for table, (_, named, given) in REFERENCE.items():
        if table not in recipe or table == "initialize":  # [initialize] is read with its checkpoint
            continue
        if not isinstance(named, Mapping):
            check_keys(named, as_table(recipe[table], where=table), where=table)
        elif table in ("masks", "augment"):
            for name, settings in as_table(recipe[table], where=table).items():
                where = f"{table}.{name}"
                function, keys = chosen(named, {**as_table(settings, where=where), "name": name}, where=where)
                check_keys(function, keys, where=where, given=given)
        else:
            function, keys = chosen(named, recipe[table], where=table)
            check_keys(function, keys, where=table, given=given)


def default_of(function: Callable, key: str, parameter: inspect.Parameter) -> str:
    """Returns the default of a setting as TOML writes it, or "required"."""
    value: Any = parameter.default
    if dataclasses.is_dataclass(function):
        for each in dataclasses.fields(function):
            if each.name == key and each.default_factory is not dataclasses.MISSING:
                value = each.default_factory()
    return "required" if value is inspect.Parameter.empty else in_short(value)


def reference_page() -> str:
    """Returns the recipe reference as a page of Markdown."""
    parts = [
        "# Recipe reference",
        "Every table of a recipe, with the type, range and default of each key. A wrong key or value is an error before "
        "anything is done. This page is made from the code by `python docs/make_reference.py`; "
        "`carnelian info --keys TABLE` prints the same.",
        "At the top of the file: `alphabet` (the symbols that the model writes, or the path of word pieces), `seed` (a whole "
        "number), `time_stretches` (factors that a recognizer tries), `task` (`acoustic`, `best_rq`, `corrector`, `language`, "
        "`wav2vec`, `wav2vec2`).",
        "A `name` with a colon, `package.module:function`, is a function of a package of your own "
        "([own-architecture.md](own-architecture.md)).",
    ]
    for table, (words, named, _) in REFERENCE.items():
        parts.append(f"## [{table}]\n\n{words[0].upper()}{words[1:]}.")
        if isinstance(named, Mapping):
            words = "One table for each of" if table in ("masks", "augment") else "`name` is one of"
            words = "Tasks" if table == "contrast" else words
            parts[-1] += f" {words}: " + ", ".join(f"`{name}`" for name in named) + "."
        for entry in reference_entries(table):
            rows = [f"| `{key}` | {kind} | {default} |" for key, kind, default in entry.keys]
            heading = f"### {entry.name}\n\n" if entry.name else ""
            lines = ["| key | type | default |", "|---|---|---|", *rows] if rows else []
            parts.append("\n".join([f"{heading}{entry.description}\n", *lines]).rstrip())
    return "\n\n".join(parts) + "\n"
