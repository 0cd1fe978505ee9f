"""Every command and code block on every page is run, as blocks.py says, in a folder that holds what the pages name."""

import json
import os
import re
import shutil
import tomllib

import pytest
from blocks import ROOT, Page, blocks_of

from carnelian.training.reference import check_tables
from carnelian.training.settings import TOP_LEVEL

PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
LANGUAGES = {"sh", "python", "toml", "json", "javascript", "text"}
RUN = [name for name, path in PAGES.items() if re.search(r"^```(sh|python)$", path.read_text(), re.M)]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_can_be_read(page):
    """Each block has a language that is known here, and is of it; no command stands in a block of plain text."""
    text = PAGES[page].read_text()
    blocks = [block for block in blocks_of(text) if block.marker != "prepare"]
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(blocks), "a block is not closed, or not at the margin"
    for block in blocks:
        where = f"{page}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: ```{block.language}"
        if block.language == "python":
            compile(block.text, where, "exec")
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            recipe = tomllib.loads(block.text)
            if recipe.keys() <= TOP_LEVEL.keys():
                check_tables(recipe)
        elif block.language == "text":
            assert not re.search(r"^carnelian ", block.text, re.M), f"{where}: commands stand in ```sh"


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RUN_DOCUMENTATION"), reason="takes minutes a page: make test-docs")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page, world, commands, tmp_path, monkeypatch):
    folder = tmp_path / "page"
    shutil.copytree(world, folder, symlinks=True)
    monkeypatch.chdir(folder)
    running = Page(folder, commands)
    try:
        for block in blocks_of(PAGES[page].read_text()):
            if block.language in ("sh", "python") and not block.marker.startswith("not run"):
                running.run(block)
    finally:
        running.close()
