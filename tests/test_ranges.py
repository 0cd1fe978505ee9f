"""Every setting of every table of a recipe has a type and a range in its signature, and a value outside of it is one line."""

import datetime
import inspect
import typing
from collections.abc import Mapping, Sequence

import pytest

from carnelian.data.augment import AUGMENTATIONS
from carnelian.errors import RecipeError
from carnelian.models.block_spec import BlockSpec
from carnelian.models.conv2d import Conv2dLayer
from carnelian.models.registry import CRITERIA, ENCODERS, FEATURES, MASKS
from carnelian.ranges import Range
from carnelian.recipe import check_value, matches_type, settings_of
from carnelian.training.initialize import Initialization
from carnelian.training.optim import OPTIMIZERS, SCHEDULES
from carnelian.training.settings import TOP_LEVEL, TrainingConfig

TABLES = {
    "features": FEATURES,
    "encoder": ENCODERS,
    "criterion": CRITERIA,
    "masks": MASKS,
    "augment": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "": {f.__name__: f for f in (TrainingConfig, Initialization, BlockSpec, Conv2dLayer)},
}
GIVEN = {"encoder": ["features"], "criterion": ["symbols"], "optimizer": ["parameters"], "augment": ["sample_rate"]}
SETTINGS = [
    pytest.param(where, name, key, hint, parameter, id=f"{where}.{name}.{key}")
    for where, functions in TABLES.items()
    for name, function in functions.items()
    for key, (hint, parameter) in settings_of(function, GIVEN.get(where, ())).items()
]


def wrong_values(hint) -> list:
    """Values that a setting of this type must refuse: other types, numbers outside its range, NaN and infinity."""
    ranges = [extra for extra in typing.get_args(hint)[1:] if isinstance(extra, Range)]
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    origin = typing.get_origin(kind)
    wrong: list = [datetime.date(2020, 1, 1), object()]
    if kind in (int, float):
        wrong += ["1", True, [1], {}, float("nan"), float("inf"), -float("inf"), 10**400]
        for each in ranges:
            wrong += [each.low if each.above else each.low - 1, each.high if each.below else each.high + 1]
        if kind is int:
            wrong.append(1.5)
    elif kind is bool:
        wrong += [0, 1, "true", []]
    elif kind is str:
        wrong += [1, ["a"], {}, False]
    elif origin is typing.Literal:
        wrong += ["no such choice", 1.5, [typing.get_args(kind)[0]], True]
    elif origin is tuple or (isinstance(origin, type) and issubclass(origin, Sequence)):
        [inner, *_] = typing.get_args(kind)
        wrong += [1, "ab", {}] + [[value] for value in wrong_values(inner)]
    elif isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        wrong += [1, "ab", [1]]
        if typing.get_args(kind):
            wrong += [{"a": value} for value in wrong_values(typing.get_args(kind)[1])]
    return [value for value in wrong if value not in (float("-inf"),) or kind in (int, float)]


@pytest.mark.parametrize(("where", "name", "key", "hint", "parameter"), SETTINGS)
def test_wrong_values_are_one_line(where, name, key, hint, parameter):
    assert hint is not typing.Any, "a setting has a type"
    for value in wrong_values(hint):
        with pytest.raises(RecipeError) as error:
            check_value(value, hint, where=where or name, key=key)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(("where", "name", "key", "hint", "parameter"), SETTINGS)
def test_defaults_are_in_their_range(where, name, key, hint, parameter):
    if parameter.default is not inspect.Parameter.empty and not callable(parameter.default):
        default = parameter.default
        if type(default).__name__ != "_HAS_DEFAULT_FACTORY_CLASS":
            assert matches_type(default, hint)


@pytest.mark.parametrize(("where", "name", "key", "hint", "parameter"), SETTINGS)
def test_numbers_have_a_range(where, name, key, hint, parameter):
    """A whole number or number without any bound is almost always a forgotten one; `stay` of ASG is a log-probability."""
    if (name, key) != ("asg", "stay"):
        assert hint not in (int, float)


def test_the_top_of_a_recipe():
    for key, hint in TOP_LEVEL.items():
        for value in (datetime.date(2020, 1, 1), object(), True):
            with pytest.raises(RecipeError):
                check_value(value, hint, where="recipe", key=key)
