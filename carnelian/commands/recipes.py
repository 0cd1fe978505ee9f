"""The recipes that come with the package: `carnelian recipes list`, `carnelian recipes copy NAME`."""

from pathlib import Path
from typing import Annotated

from carnelian.console import note, table
from carnelian.errors import CarnelianError, RecipeError
from carnelian.files import written
from carnelian.recipe import did_you_mean, packaged_recipes


def list_recipes() -> None:
    """List the recipes that come with the package, with what each is for.

    Example: carnelian recipes list
    """
    rows = []
    for name, path in packaged_recipes().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        rows.append((name, first.removeprefix("#").strip()))
    table("Recipes: carnelian train NAME --out RUN", ("name", "what it is"), rows)


def copy_recipe(
    name: Annotated[str, "a name that `carnelian recipes list` prints, such as an4/quartznet"],
    *,
    out: Annotated[Path | None, "the file to write; by default the recipe's own name in the current folder"] = None,
    overwrite: Annotated[bool, "replace the file if it exists"] = False,
) -> Path:
    """Write a recipe to a file of your own, to change it.

    Example: carnelian recipes copy an4/quartznet --out mine.toml
    """
    recipes = packaged_recipes()
    if name not in recipes:
        raise RecipeError(f"{name}: no recipe has this name.{did_you_mean(name, recipes)}")
    path = out or Path(recipes[name].name)
    if path.exists() and not overwrite:
        raise CarnelianError(f"{path}: exists. Give another --out, or --overwrite")
    with written(path) as file:
        file.write(recipes[name].read_text(encoding="utf-8"))
    note(f"wrote {path}; change it, then: carnelian train {path} --out RUN")
    return path


RECIPES_VERBS = {"list": list_recipes, "copy": copy_recipe}
