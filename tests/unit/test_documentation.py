"""The documentation, held to the code: what it names exists, what there is stands in it, and each
block of code has a test that runs it."""

import json
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import nbformat
import pytest
import typer.main
from PIL import Image
from pymdownx.superfences import SuperFencesException
from typer.core import TyperGroup

from app.api.problem_kinds import PROBLEMS
from app.core.settings import Settings
from docs.equations import math_fence
from docs.excerpts import ExcerptError, excerpt
from docs.figures import MODEL, PICTURES
from docs.reference import DOCUMENT, PROGRAMS, http_page, options_page
from docs.tour import NOTEBOOK, PAGE, code_cells
from models.loading import describe_captioner
from tests.unit.documentation import DOCS, commands, fences, pages, texts
from tests.unit.repository import ROOT

pytestmark = pytest.mark.docs

HOLDERS = {
    "architecture.md": "tests/unit/test_project_rules.py",
    "commands.md": "tests/integration/test_commands.py",
    "equations.md": "tests/unit/test_documentation.py",
    "extend.md": "tests/unit/test_extend_page.py",
    "http.md": "tests/unit/test_documentation.py",
    "languages.md": "tests/integration/test_translator_training.py",  # its commands take hours
    "own-photos.md": "tests/e2e/test_own_photos_page.py",
    "performance.md": "tests/unit/test_benchmarks.py",  # its commands are understood; minutes long
    "scale.md": "tests/unit/test_documentation.py",  # its commands exist; they take hours
    "start.md": "tests/e2e/test_documented_requests.py",
    "tour.md": "tests/integration/test_tour.py",
    "training.md": "tests/e2e/test_readme.py",
    "troubleshooting.md": "tests/e2e/test_documented_requests.py",
}
"""Which test runs the blocks of a page, or holds them to what wrote them."""


# -- blocks ----


def test_blocks_of_every_page_have_a_test_that_names_the_page() -> None:
    with_blocks = {page for page, text in pages().items() if fences(page, text)}
    assert with_blocks == set(HOLDERS)
    for page, holder in HOLDERS.items():
        assert page in (ROOT / holder).read_text(encoding="utf-8"), holder


def test_blocks_all_name_their_language() -> None:
    nameless = [fence.page for page in pages() for fence in fences(page) if not fence.language]
    assert not nameless


# -- pages that are written by the code ----


def test_http_page_is_what_the_openapi_document_gives() -> None:
    """`make docs` writes it anew."""
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    assert (DOCS / "http.md").read_text(encoding="utf-8") == http_page(document)


def test_http_page_has_every_operation_and_every_shape() -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    headings = set(re.findall(r"^### (.+)$", http_page(document), re.MULTILINE))
    operations = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert operations | set(document["components"]["schemas"]) <= headings


def test_http_page_has_every_problem_that_a_client_may_be_answered() -> None:
    text = pages()["http.md"]
    missing = sorted(
        kind.slug
        for error, kind in PROBLEMS.items()
        if kind.slug
        and kind.status != 499
        and not error.__subclasses__()
        and f"### {kind.slug}\n" not in text
    )
    assert not missing


def test_options_page_is_what_the_programs_give() -> None:
    """`make docs` writes it anew."""
    assert (DOCS / "options.md").read_text(encoding="utf-8") == options_page()


def all_commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command of a program by its full name, those of its groups among them."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from all_commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_options_page_has_every_command_and_every_option() -> None:
    page = options_page()
    for program, application in PROGRAMS.items():
        for name, command in all_commands(typer.main.get_command(application), program):
            _, _, part = page.partition(f"### {name}\n")
            part = part.partition("\n### ")[0]
            assert part, name
            for parameter in command.params:
                for option in parameter.opts:
                    assert f"`{option}`" in part or f"`{option.upper()}`" in part, (name, option)


# -- equations and pictures ----


def test_equations_page_has_every_equation_of_the_paper() -> None:
    text = (DOCS / "equations.md").read_text(encoding="utf-8")
    numbers: set[int] = set()
    for first, joined, second in re.findall(
        r"^## Equations? (\d+)(?: (to|and) (\d+))?", text, re.M
    ):
        last = int(second or first)
        numbers |= set(range(int(first), last + 1)) if joined == "to" else {int(first), last}
    assert numbers == set(range(1, 15))


def test_equations_page_quotes_code_that_exists_and_marks_the_line_that_computes() -> None:
    quoted = [fence for fence in fences("equations.md") if fence.language == "source"]
    formulas = [fence for fence in fences("equations.md") if fence.language == "math"]
    assert len(quoted) >= len(formulas) > 10
    for fence in quoted:
        assert excerpt(fence.code).marked
    for fence in formulas:
        assert "<math" in math_fence(fence.code, "math", "equation", {}, None)


@pytest.mark.parametrize(
    "fence",
    [
        "models/decoders/no_such_file.py lstm_update",
        "models/decoders/lstm.py no_such_function",
        "models/decoders/lstm.py lstm_update\nno such line",
        "models/decoders/lstm.py lstm_update\ncell",
    ],
)
def test_excerpt_of_what_is_not_there_is_refused(fence: str) -> None:
    with pytest.raises(ExcerptError):
        excerpt(fence)


@pytest.mark.parametrize("formula", [r"\left( x", r"a^", r"\nosuch{x}"])
def test_equation_that_cannot_be_read_is_refused(formula: str) -> None:
    with pytest.raises(SuperFencesException):
        math_fence(formula, "math", "equation", {}, None)


def test_pictures_of_how_it_works_are_of_the_shipped_weights() -> None:
    """Stale ones are drawn anew by docs/figures.py."""
    digest = describe_captioner(ROOT / "weights", MODEL).digest
    shown = set(re.findall(r"images/(how-[\w-]+\.jpg)", pages()["how-it-works.md"]))
    assert shown == set(PICTURES)
    for name in shown:
        with Image.open(DOCS / "images" / name) as image:
            assert image.info["comment"].decode() == digest, name


def test_tour_page_has_the_code_of_the_notebook_which_keeps_no_outputs() -> None:
    """A stale tour.md is written anew by docs/tour.py."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    written = [fence.code.rstrip("\n") for fence in fences(PAGE.name) if fence.language == "python"]
    assert written == code_cells(notebook)
    assert not any(cell.get("outputs") for cell in notebook["cells"])


# -- what pages name ----


def test_settings_that_pages_name_all_exist() -> None:
    known = {f"GLIMPSE_{name.upper()}" for name in Settings.model_fields} | {
        "GLIMPSE_SHARED",
        "GLIMPSE_URL",
        "GLIMPSE_API_KEY",
    }
    for page, text in texts().items():
        named = set(re.findall(r"GLIMPSE_[A-Z_]*[A-Z]", text))
        assert named <= known, page


def command_lines(page: str, text: str) -> Iterator[str]:
    """What a page has of our programs, in blocks and within sentences."""
    lines = [line for fence in fences(page, text) for line in fence.code.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in lines:
        found = re.match(r"(?:\.venv/bin/)?(glimpse(?:-train)? [a-z].*)", line)
        if found:
            yield found[1]


def test_commands_that_pages_name_all_exist_with_their_options() -> None:
    known = {
        name: command
        for program, application in PROGRAMS.items()
        for name, command in all_commands(typer.main.get_command(application), program)
    }
    seen = set()
    for page, text in texts().items():
        for line in command_lines(page, text):
            names = [name for name in known if f"{line} ".startswith(f"{name} ")]
            if not names:
                assert any(name.startswith(f"{line} ") for name in known), f"{page}: {line}"
                continue
            name = max(names, key=len)
            seen.add(name)
            given = {word for word in shlex.split(line) if word.startswith("--")}
            options = {
                option
                for parameter in known[name].params
                for option in (*parameter.opts, *parameter.secondary_opts)
            }
            assert given - {"--help"} <= options, f"{page}: {line}"
    assert {"glimpse keys add", "glimpse settings", "glimpse-train export"} <= seen


def test_programs_that_pages_start_with_python_all_exist() -> None:
    modules: set[str] = set()
    scripts: set[str] = set()
    for page, text in texts().items():
        for line in commands(page, text):
            modules |= set(re.findall(r"python -m ([\w.]+)", line))
            scripts |= set(re.findall(r"python (\w[\w/]*\.py)", line))
    assert {"docs.figures", "docs.tour"} <= modules
    assert {"docs/refresh.py"} <= scripts
    assert [name for name in sorted(modules) if find_spec(name) is None] == []
    assert [name for name in sorted(scripts) if not (ROOT / name).is_file()] == []
