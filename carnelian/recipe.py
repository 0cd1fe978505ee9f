"""A recipe: one TOML file per experiment, whose tables' keys are the keyword arguments of what they name."""

import difflib
import importlib
import inspect
import json
import os
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carnelian.errors import RecipeError
from carnelian.file_kinds import misplaced
from carnelian.ranges import Range

Recipe = dict[str, Any]
#: numbers of a recipe are smaller, so that they fit wherever they go
LARGEST_NUMBER = 2**53
#: characters of a key, and of a list of known names in an error
LONGEST_KEY, LONGEST_LIST = 48, 120
RECIPES = Path(__file__).parent / "recipes"
#: environment variable with the packages, separated by commas, whose functions a recipe or a checkpoint may name
CODE_VARIABLE = "CARNELIAN_CODE"

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
    if other := misplaced(path, "a recipe"):
        raise RecipeError(other)
    try:
        recipe = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f'{path}: no such recipe. Give a .toml file, or a name that "carnelian recipes" lists, such as an4/quartznet'
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: this is a folder. Give a recipe, a .toml file") from None
    except (
        OSError,
        ValueError,
        RecursionError,
        AttributeError,
    ) as error:  # digits and dates beyond Python's limits among them
        if isinstance(error, tomllib.TOMLDecodeError):
            raise RecipeError(f"{path}: not TOML ({str(error)[:120]}). Fix that line") from None
        raise RecipeError(f"{path}: cannot be read ({str(error)[:120]}). A recipe is a TOML file in UTF-8") from None
    for override in overrides:
        set_key(recipe, override)
    refuse_strange_keys(recipe, path)
    return modernize(recipe)


def refuse_strange_keys(table: Mapping[str, Any], path: str | Path) -> None:
    """Raises RecipeError for a key too long, or not printable, so that an error that names a key is one short line."""
    for key, value in table.items():
        if len(key) > LONGEST_KEY or not key.isprintable():
            raise RecipeError(
                f"{path}: {in_short(key)} is no key of a recipe. Keys are printable and have at most {LONGEST_KEY} characters"
            )
        if isinstance(value, dict):
            refuse_strange_keys(value, path)


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
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        recipe[key] = value  # as given, with its spaces: an alphabet may begin with one


def did_you_mean(name: str, known: Iterable[str], all_by: str = "") -> str:
    """Returns the end of an error about an unknown name: the nearest known one, and the known ones, cut where they are many.

    all_by: the command that prints all of them.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    shown = ", ".join(known)
    if len(shown) > LONGEST_LIST:
        shown = shown[:LONGEST_LIST].rpartition(", ")[0]
        shown += f" and {len(known) - shown.count(', ') - 1} more" + (f" ({all_by})" if all_by else "")
    return (f" Did you mean '{near[0]}'?" if near else "") + f" Known: {shown}."


def choose(functions: Mapping[str, Callable], table: Any, *, where: str, **given: Any) -> Any:
    """Returns the result of the function named by the table's `name`, called with the table's other keys and with `given`."""
    return call(*chosen(functions, table, where=where), where=where, **given)


def chosen(functions: Mapping[str, Callable], table: Any, *, where: str) -> tuple[Callable, dict[str, Any]]:
    """Returns the function named by the table's `name`, and the table's other keys. Raises RecipeError for an unknown name.

    A name with a colon, `package.module:function`, is a function of another package: see `function_outside`.
    """
    settings = as_table(table, where=where)
    name = settings.pop("name", None)
    if name is None:
        raise RecipeError(f"[{where}] has no 'name'. Known: {', '.join(sorted(functions))}.")
    if isinstance(name, str) and ":" in name:
        return function_outside(name, where=where), settings
    if not isinstance(name, str) or name not in functions:
        raise RecipeError(
            f"[{where}] name = {in_short(name)}: no {where} has this name.{did_you_mean(str(name), functions)}"
        )
    return functions[name], settings


def function_outside(name: str, *, where: str) -> Callable:
    """Returns the function `package.module:function` of a package that CARNELIAN_CODE lists. Raises RecipeError for any other.

    A recipe and a checkpoint are data and may come from anybody; to import a module is to run its code. So a module is imported only
    where the user has named it or a package that it is in, and only a function defined in that package is returned.
    """
    module_name, _, function_name = name.partition(":")
    allowed = [each.strip() for each in os.environ.get(CODE_VARIABLE, "").split(",") if each.strip()]

    def is_allowed(module: str) -> bool:
        return any(module == each or module.startswith(f"{each}.") for each in allowed)

    found = f"[{where}] name = {in_short(name)}"
    if not is_allowed(module_name):
        package = in_short(module_name.partition(".")[0]).strip('"')
        raise RecipeError(
            f"{found}: code of another package, which was not run. If you trust that package, set {CODE_VARIABLE}={package}"
        )
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:100]}"
        raise RecipeError(
            f"{found}: cannot be imported ({reason}). Install its package, or put its folder on PYTHONPATH"
        ) from None
    if not inspect.isfunction(function) or not is_allowed(function.__module__):
        raise RecipeError(f"{found}: expected a function that is defined in a package of {CODE_VARIABLE}")
    return function


def as_table(value: Any, *, where: str) -> dict[str, Any]:
    """Returns a copy of a table of a recipe. Raises RecipeError for a value that is no table."""
    if not isinstance(value, Mapping):
        raise RecipeError(f"[{where}] is {in_short(value)}, expected a table of settings")
    return dict(value)


def call(function: Callable, table: Any, *, where: str, **given: Any) -> Any:
    """Returns the result of a function called with a table's keys, checked against its signature, and with `given`."""
    settings = as_table(table, where=where)
    check_keys(function, settings, where=where, given=given)
    parameters = inspect.signature(function).parameters
    return function(**{key: value for key, value in given.items() if key in parameters}, **settings)


def settings_of(function: Callable, given: Iterable[str] = ()) -> dict[str, tuple[Any, inspect.Parameter]]:
    """Returns the type and parameter of each setting of a function by its name, without those that the program gives."""
    hints = typing.get_type_hints(function, include_extras=True)
    hidden = {"return", *given}
    return {
        key: (hints.get(key, Any), parameter)
        for key, parameter in inspect.signature(function).parameters.items()
        if key not in hidden
    }


def check_keys(function: Callable, table: Mapping[str, Any], *, where: str, given: Iterable[str] = ()) -> None:
    """Raises RecipeError for a key that the function does not have or that is missing, and for a value outside its type or range."""
    settings = settings_of(function, given)
    for key, value in table.items():
        if key not in settings:
            known = did_you_mean(key, settings, all_by=f"carnelian info --keys {where.partition('.')[0]}")
            raise RecipeError(f"[{where}] {function.__name__}: no setting is called '{key}'.{known}")
        check_value(value, settings[key][0], where=where, key=key)
    for key, (_, parameter) in settings.items():
        if parameter.default is parameter.empty and key not in table and parameter.kind != parameter.VAR_KEYWORD:
            raise RecipeError(f"[{where}] {function.__name__}: the setting '{key}' is missing.")


def check_value(value: Any, hint: Any, *, where: str, key: str) -> None:
    """Raises RecipeError for a value that is not of a type, or outside the range that the type is annotated with."""
    if matches_type(value, hint):
        return
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    if typing.get_origin(kind) is typing.Literal and isinstance(value, str):
        raise RecipeError(
            f"[{where}] {key} = {in_short(value)}: no such choice.{did_you_mean(value, map(str, typing.get_args(kind)))}"
        )
    raise RecipeError(f"[{where}] {key} = {in_short(value)}: expected {type_in_words(hint)}.")


def matches_type(value: Any, hint: Any) -> bool:
    """Returns whether a value of TOML is of a type: integers count as floats, lists as tuples; numbers are finite and in
    their range."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return matches_type(value, arguments[0]) and all(
            value in extra for extra in arguments[1:] if isinstance(extra, Range)
        )
    if origin in (typing.Union, types.UnionType):
        return any(matches_type(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(type(value) is type(argument) and value == argument for argument in arguments)
    if origin is tuple and arguments and Ellipsis not in arguments:
        return (
            isinstance(value, list | tuple)
            and len(value) == len(arguments)
            and all(map(matches_type, value, arguments))
        )
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return isinstance(value, list | tuple) and all(matches_type(item, arguments[0]) for item in value if arguments)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            matches_type(key, arguments[0]) and matches_type(item, arguments[1])
            for key, item in value.items()
            if arguments
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER
    return not isinstance(hint, type) or isinstance(value, hint)


def type_in_words(hint: Any) -> str:
    """Returns a type, and its range, in a few words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        ranges = [str(extra) for extra in arguments[1:] if isinstance(extra, Range)]
        return " ".join([type_in_words(arguments[0]), *ranges])
    if origin is typing.Literal:
        return "one of " + ", ".join(json.dumps(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_in_words(argument) for argument in arguments)
    if origin is tuple and arguments and Ellipsis not in arguments:
        numbers = ("no", "one", "two", "three", "four")
        count = numbers[len(arguments)] if len(arguments) < len(numbers) else str(len(arguments))
        return f"{count} values, each {type_in_words(arguments[0])}"
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return "a list" + (f", each {type_in_words(arguments[0])}" if arguments else "")
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a table" + (f", each value {type_in_words(arguments[1])}" if arguments else "")
    if isinstance(hint, type) and issubclass(hint, Mapping):
        return "a table"
    words = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return words.get(hint) or str(getattr(hint, "__name__", hint))


def in_short(value: Any) -> str:
    """Returns a value as TOML would write it, in at most 60 characters, all of them printable."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
    return text if len(text) <= 60 else text[:57] + "..."
