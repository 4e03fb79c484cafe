"""docs/commands.md names every command and every option of those that it explains."""

import re

import pytest
import typer
from typer.main import get_command

from app.bulk.rows import COLUMNS
from app.cli import cli
from tests.unit.repository import ROOT

pytestmark = pytest.mark.docs

PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
EXPLAINED = ("caption", "attention", "bulk")


def commands() -> dict[str, list[str]]:
    """Every command, by its words, with its options."""
    found: dict[str, list[str]] = {}
    group = get_command(cli)
    context = typer.Context(group)
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        for inner in getattr(command, "commands", {"": command}):
            words = f"{name} {inner}".strip()
            found[words] = [
                option for each in command.params for option in each.opts if option[0] == "-"
            ]
    return found


def test_every_command_is_on_the_page() -> None:
    named = {match[1] for match in re.finditer(r"`glimpse ([a-z]+(?: [a-z]+)?)`", PAGE)}
    assert named == commands().keys()


def test_every_option_of_the_explained_commands_is_on_the_page() -> None:
    options = {option for name in EXPLAINED for option in commands()[name]} - {"--out"}
    assert options >= {"--json", "--write-xmp", "-o"}
    assert [option for option in sorted(options) if f"`{option}`" not in PAGE] == []


def test_every_option_in_the_examples_exists() -> None:
    lines = [line.split() for line in re.findall(r"^glimpse .*$", PAGE, re.MULTILINE)]
    assert len(lines) > 5
    for _, name, *words in lines:
        asked = {word for word in words if re.match(r"-\w|--\w", word)}
        assert asked <= set(commands()[name]), (name, asked)


def test_every_column_of_an_output_is_on_the_page() -> None:
    table = PAGE.partition("| column | meaning |")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE))) == [
        *COLUMNS
    ]
