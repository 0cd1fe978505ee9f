"""The real recordings and reference outputs that tests use where they are at hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for what several tests use: hostile_server, shorten

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    """`shared("an4")`: that folder of real data; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"real data are not at hand: ../shared/data/{name}")
        return path

    return find


@pytest.fixture(scope="session")
def cases():
    """`cases("mp3_joined")`: the folder of a fault found earlier, with its small inputs; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED.parent / "cases" / name
        if not path.exists():
            pytest.skip(f"the case is not at hand: ../shared/cases/{name}")
        return path

    return find
