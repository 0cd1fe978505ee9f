"""Every `carnelian VERB ... --option` in the documentation and the notebooks exists in the command line."""

import re
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from carnelian.cli import VERBS, application

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.py")), *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"(?<![\w/.])carnelian ((?:[^\n`]|\\\n)+)")


@cache
def command_of(verb: str):
    return get_command(application(verb)).commands[verb]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    wrong = []
    for line in COMMAND.findall(page.read_text()):
        words = line.replace("\\\n", " ").partition(" #")[0].partition(" | ")[0].partition("&&")[0].split()
        if not words or words[0] not in VERBS:
            continue  # prose about the package
        command = command_of(words.pop(0))
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options |= {"--help"}
        for below in getattr(command, "commands", {}).values():  # where only the group is named
            options |= {option for parameter in below.params for option in parameter.opts}
        given = [re.match(r"--[a-z-]+", word).group() for word in words if re.match(r"--[a-z]", word)]
        wrong += [f"carnelian {line.strip()}: {option}" for option in given if option not in options]
    assert not wrong
