"""SCTK's test files, where they are at hand."""

import pytest


@pytest.fixture(scope="session")
def sctk(shared):
    return shared("scoring/sctk") / "sclite_testdata"
