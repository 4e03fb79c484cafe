"""The documentation as its tests read it: pages and their fences of code."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.unit.repository import ROOT

DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Fence:
    """A block of code. language: "" where none is named; title: the file that it is a part of."""

    page: str
    language: str
    title: str
    code: str


def pages() -> dict[str, str]:
    """Every page of the site, by its path below docs/."""
    return {
        path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(DOCS.rglob("*.md"))
        if DOCS / "examples" not in path.parents
    }


def texts() -> dict[str, str]:
    """Every page, and those of the project's own folder."""
    names = ("README.md", "CONTRIBUTING.md")
    return pages() | {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def fences(page: str, text: str | None = None) -> list[Fence]:
    """The blocks of a page, in order."""
    read = (DOCS / page).read_text(encoding="utf-8") if text is None else text
    found = re.findall(
        r'^```([a-z0-9]*)(?: title="([^"]*)")?\n(.*?)^```$', read, re.DOTALL | re.MULTILINE
    )
    assert 2 * len(found) == len(re.findall(r"^```", read, re.MULTILINE)), page
    return [Fence(page, *parts) for parts in found]


def commands(page: str, text: str | None = None) -> list[str]:
    """The lines that a page tells a reader to type."""
    scripts = [fence.code for fence in fences(page, text) if fence.language == "bash"]
    return [line for script in scripts for line in script.splitlines()]


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file below a folder, with the folders that it needs."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
