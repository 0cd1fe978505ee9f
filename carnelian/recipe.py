"""A recipe: one TOML file per experiment, whose tables' keys are the keyword arguments of what they name."""

import difflib
import inspect
import json
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carnelian.errors import RecipeError

Recipe = dict[str, Any]
RECIPES = Path(__file__).parent / "recipes"

#: keys of version 0.1 with their names of today, by table ("" is the top of the file); old recipes and checkpoints load through it
RENAMED_KEYS = {
    "": {"start": "initialize", "stretches": "time_stretches"},
    "encoder": {"planes": "conv2d", "rows": "blocks"},
    "initialize": {"carry": "copy_shared_symbols"},
}


def packaged_recipes() -> dict[str, Path]:
    """Returns the recipes that come with the package: name such as "an4/quartznet" -> file."""
    return {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in sorted(RECIPES.glob("*/*.toml"))}


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Returns the tables of a recipe, changed by overrides such as `encoder.blocks=5`.

    path: a TOML file, or the name of a recipe that comes with the package, such as "an4/quartznet". Keys of version 0.1 are returned
    under their names of today. Raises RecipeError.
    """
    path = packaged_recipes().get(str(path), path) if not Path(path).exists() else path
    try:
        recipe = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f'{path}: no such recipe. Give a .toml file, or a name that "carnelian recipes" lists, such as an4/quartznet'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}). A recipe is a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML ({error}). Mend that line") from None
    for override in overrides:
        set_key(recipe, override)
    return modernize(recipe)


def modernize(recipe: Recipe) -> Recipe:
    """Returns a recipe with the keys of version 0.1 under their names of today."""

    def renamed(table: Any, name: str) -> Any:
        names = RENAMED_KEYS.get(name, {})
        return {names.get(key, key): value for key, value in table.items()} if isinstance(table, dict) else table

    recipe = renamed(recipe, "")
    return {key: renamed(value, key) for key, value in recipe.items()} if isinstance(recipe, dict) else recipe


def set_key(recipe: Recipe, override: str) -> None:
    """Changes one key, given as `table.key=value`; the value is TOML, or else a plain string."""
    name, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(
            f'--set {override}: no "=" in it. Write --set table.key=value, such as --set encoder.blocks=5'
        )
    *tables, key = name.strip().split(".")
    for table in tables:
        recipe = recipe.setdefault(table, {})
        if not isinstance(recipe, dict):
            raise RecipeError(f"--set {override}: {table} is a value, not a table")
    try:
        recipe[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        recipe[key] = value.strip()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (f" Did you mean '{near[0]}'?" if near else "") + f" Known: {', '.join(known)}."


def choose(functions: Mapping[str, Callable], table: Mapping[str, Any], *, where: str, **given: Any) -> Any:
    """What the function named by the table's `name` gives for the table's other keys and what is `given` besides."""
    settings = dict(table)
    name = settings.pop("name", None)
    if name is None:
        raise RecipeError(f"[{where}] has no 'name'. Known: {', '.join(sorted(functions))}.")
    if name not in functions:
        raise RecipeError(f"[{where}] name: no {where} is called '{name}'.{did_you_mean(str(name), functions)}")
    return call(functions[name], settings, where=where, name=name, **given)


def call(function: Callable, table: Mapping[str, Any], *, where: str, name: str = "", **given: Any) -> Any:
    """What a function gives for a table's keys, checked against its signature, and what is `given` besides."""
    check_keys(function, table, where=where, name=name or function.__name__, given=given)
    parameters = inspect.signature(function).parameters
    return function(**{key: value for key, value in given.items() if key in parameters}, **table)


def check_keys(
    function: Callable, table: Mapping[str, Any], *, where: str, name: str, given: Iterable[str] = ()
) -> None:
    """Raises RecipeError for a key that the function has not, lacks, or that is of another type than it says."""
    hints = typing.get_type_hints(function)
    parameters = {key: value for key, value in inspect.signature(function).parameters.items() if key not in set(given)}
    for key, value in table.items():
        if key not in parameters:
            raise RecipeError(f"[{where}] {name}: no setting is called '{key}'.{did_you_mean(key, parameters)}")
        if key in hints and not matches_type(value, hints[key]):
            raise RecipeError(f"[{where}] {key} = {json.dumps(value)}: expected {type_in_words(hints[key])}.")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in table and parameter.kind != parameter.VAR_KEYWORD:
            raise RecipeError(f"[{where}] {name}: the setting '{key}' is missing.{did_you_mean(key, parameters)}")


def matches_type(value: Any, hint: Any) -> bool:
    """Whether a TOML value can stand for a type: whole numbers for floats, lists for tuples and sequences."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(matches_type(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple or origin is list or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return isinstance(value, list | tuple) and all(matches_type(item, arguments[0]) for item in value if arguments)
    if origin is not None:
        return isinstance(value, origin)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def type_in_words(hint: Any) -> str:
    """A type in a word or two."""
    words = {
        int: "a whole number",
        float: "a number",
        str: "a string",
        bool: "true or false",
        tuple[int, int]: "two whole numbers",
    }
    return words.get(hint) or str(hint).replace("typing.", "").replace("collections.abc.", "")
