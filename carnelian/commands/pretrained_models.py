"""`carnelian models`: the pretrained models that a name stands for, and their download."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from typing import Annotated

from carnelian import console
from carnelian.errors import CheckpointError
from carnelian.formats.catalog import fetch_model, find_model, model_path, read_catalog
from carnelian.recipe import did_you_mean


def pretrained_models(
    names: Annotated[list[str] | None, "models to download now, so that they work offline later"] = None,
    *,
    language: Annotated[str, "list only models of this language, such as en, es, de"] = "",
    json_output: Annotated[bool, "print the list as JSON, with addresses and checksums"] = False,
    from_: Annotated[str, "fetch from this address, not from where it was published"] = "",
) -> None:
    """List the pretrained models by name, or download some. Any command that takes a checkpoint also takes these names.

    Example: carnelian models
    """
    date, known = read_catalog()
    for name in names or []:
        model = find_model(name)
        if model is None:
            raise CheckpointError(f"{name}: no pretrained model has this name.{did_you_mean(name, known)}")
        if from_ and len(names or []) > 1:
            raise CheckpointError(f"--from {from_}: one address for {len(names or [])} models. Give one name with it")
        print(fetch_model(model, from_))
    if names:
        return
    listed = [model for model in known.values() if language in ("", model.language)]
    if not listed:
        languages = ", ".join(sorted({model.language for model in known.values()}))
        raise CheckpointError(f'--language "{language}": no pretrained model is of it. Known: {languages}')
    if json_output:
        print(
            json.dumps(
                [{**dataclasses.asdict(model), "kept": model_path(model).exists()} for model in listed], indent=1
            )
        )
        return
    columns = ("name", "lang", "million", "licence", f"WER as published, greedy ({date})")
    rows = [
        (
            model.name,
            model.language,
            f"{model.parameters:g}" if model.parameters else "",
            model.licence,
            model.wer + " [here]" * model_path(model).exists(),
        )
        for model in listed
    ]
    print_models(columns, rows)
    console.note("try: carnelian transcribe NAME FILES")


def print_models(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a line for each model, so that names are whole and lines can be searched; below one another where they do not fit."""
    name = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:{name}}  {row[1]:4}  {row[2]:>7}  {row[3]:10}  {row[4]}".rstrip() for row in (columns, *rows)]
    if shutil.get_terminal_size((10_000, 24)).columns < max(map(len, lines)):
        console.print_rows("Pretrained models", columns, rows)
        return
    print("\n".join(lines))
