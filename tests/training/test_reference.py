"""The recipe reference is complete and that of the code."""

import pytest

from carnelian.errors import RecipeError
from carnelian.training.reference import REFERENCE, reference_entries
from carnelian.training.settings import TOP_LEVEL


def test_every_table_of_a_recipe_is_in_it():
    assert {key for key, kind in TOP_LEVEL.items() if kind is dict} <= REFERENCE.keys()


def test_keys_have_types_ranges_and_defaults():
    [train] = reference_entries("train")
    keys = {key: (kind, default) for key, kind, default in train.keys}
    assert keys["clip"] == ("a number 0 or more", "0.0") and keys["manifests"] == ("a list, each a string", "required")
    assert keys["precision"][0] == 'one of "fp32", "bf16", "fp16"' and keys["validation"][1] == "[]"
    with pytest.raises(RecipeError, match="Did you mean 'encoder'"):
        list(reference_entries("encodr"))
