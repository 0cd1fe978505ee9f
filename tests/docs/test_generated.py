"""Pages made from the code are those that the code gives, and every page is in the table of contents."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def made():
    specification = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return {path.as_posix(): text for path, text in module.pages().items()}


def test_the_pages_are_current(made):
    stale = [path for path, text in made.items() if (DOCS / path).read_text(encoding="utf-8") != text]
    assert not stale, "run: python docs/make_reference.py"
    kept = {path.relative_to(DOCS).as_posix() for path in (DOCS / "commands").glob("*.md")}
    assert kept <= made.keys(), "a page of a verb that there is no longer"


def test_every_page_is_in_the_table_of_contents():
    contents = (DOCS.parent / "mkdocs.yml").read_text().partition("nav:")[2]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert not [page for page in sorted(pages) if f" {page}\n" not in contents]


def test_a_page_has_each_argument_and_option_with_its_default_and_meaning(made):
    page = made["commands/tune.md"]
    assert "| `MODEL` | path |" in page
    assert "| `--force` |" in made["commands/evaluate.md"], "the fields of a dataclass are options"
    assert (
        "`--arpa`" in made["commands/language-model.md"]
        and "| `--order` | whole number | required |" in made["commands/language-model.md"]
    )
    assert "### BeamSearch.batch" in made["api.md"] and "beam_width: int = 64," in made["api.md"]
    assert "<s>" not in made["api.md"], "Markdown takes it for HTML"
