"""What may change when a run goes on, and the lock that keeps a second training out of its folder."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carnelian import console
from carnelian.errors import CheckpointError
from carnelian.files import try_lock, written
from carnelian.recipe import Recipe, in_short, modernize
from carnelian.training.distributed import World

#: keys of [train] that change no number of the training; `manifests`, `pairs` and `texts` are compared by what they hold
FREE_KEYS = {
    "device",
    "keep_best",
    "keep_last",
    "manifests",
    "pairs",
    "patience",
    "price_per_hour",
    "save_every",
    "save_minutes",
    "texts",
    "unknown_characters",
    "validate_every",
    "validation",
    "workers",
}
LENGTH_KEYS = {"epochs", "steps"}


@contextmanager
def locked(folder: Path, world: World) -> Iterator[None]:
    """Holds the folder of a run for the first process. Raises CheckpointError while another training holds it.

    The lock is on the folder itself.
    """
    if world.rank or os.name != "posix":
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}). Give another --out folder") from None
    try:
        try:
            if not try_lock(handle):
                raise CheckpointError(
                    f"{folder}: another process trains in this folder. Wait for it, stop it, or give another --out"
                )
        except OSError as error:  # some network file systems have no locks
            console.note(f"{folder}: cannot be locked ({error.strerror}). Start no second training in it")
        yield
    finally:
        os.close(handle)


def differing_keys(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Returns the keys in which two recipes differ, as table.key -> (old value, new value), without those that change no number."""
    found = {}
    for table in sorted(old.keys() | new.keys()):
        before, after = old.get(table), new.get(table)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            free = FREE_KEYS | LENGTH_KEYS if table == "train" else set()
            for key in sorted((before.keys() | after.keys()) - free):
                if before.get(key) != after.get(key):
                    found[f"{table}.{key}"] = before.get(key), after.get(key)
        elif before != after:
            found[table] = before, after
    return found


def check_recipe_of_run(folder: Path, recipe: Recipe, *, allow_changes: bool) -> None:
    """Raises CheckpointError if a run's folder holds a run of a recipe that gives other numbers. Names the keys."""
    path = folder / "recipe.json"
    if not path.exists():
        return
    try:
        old = modernize(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(old, dict):
            raise ValueError("not a table")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}). Restore it from a checkpoint, or give another --out folder"
        ) from None
    found = differing_keys(old, json.loads(json.dumps(recipe)))
    if found:
        named = "; ".join(f"{key} was {in_short(a)}, is {in_short(b)}" for key, (a, b) in list(found.items())[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        if not allow_changes:
            raise CheckpointError(
                f"{folder}: holds a run of another recipe: {named}{more}. Give another --out folder, or --allow-changes"
            )
        console.note(f"{folder}: goes on with a changed recipe: {named}{more}")


def keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe into a run's folder."""
    with written(folder / "recipe.json") as file:
        json.dump(recipe, file, indent=2, ensure_ascii=False)


def check_data_of_run(
    folder: Path, state: Mapping[str, Any], data: Mapping[str, Any], world: World, *, allow_changes: bool
) -> None:
    """Raises CheckpointError if a state comes from other data or another number of processes, which change the batches
    and the schedule."""
    found = []
    if state.get("processes", world.ranks) != world.ranks:
        found.append(
            f"it was trained by {state['processes']} processes, this is {world.ranks}: "
            "the batch of a step, the number of steps and the schedule are others"
        )
    for key, value in (state.get("data") or {}).items():
        if key in data and data[key] != value:
            found.append(f"its data had other {key} ({value}, now {data[key]}): the order of the batches is another")
            break
    if found and not allow_changes:
        raise CheckpointError(
            f"{folder}: {'; '.join(found)}. Restore that, give another --out folder, or --allow-changes"
        )
    for each in found:
        console.note(f"{folder}: {each}")
