"""Writes the reference pages: docs/http.md from the OpenAPI document, docs/options.md from the
programs' own options.

    .venv/bin/python -m docs.reference

Knows no route and no command by name.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperGroup

from app.api.problem_kinds import PROBLEMS
from app.cli import cli as service_cli
from docs.refresh import layout
from training.cli import app as training_cli

__all__ = ["http_page", "options_page"]

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "tests" / "golden" / "openapi.json"
PROGRAMS = {"glimpse": service_cli, "glimpse-train": training_cli}
Record = Mapping[str, Any]
_LONG = 4
_CLIENT_LEFT = 499  # answered to nobody

_HTTP_INTRODUCTION = """# HTTP

Every address of the service, every option and every answer. The service itself has the same at
`/docs`, to try out, and at `/openapi.json`, for programs. [Five minutes](start.md) is the gentler
way in.

This page is written by `make docs` from the OpenAPI document; a test compares the two.
"""
_OPTIONS_INTRODUCTION = """# Commands and options

Every command and every option, as `--help` has them. The programs lie in `.venv/bin/` after
`make serve` (`glimpse`) or `make train` (`glimpse-train`).

This page is written by `make docs` from the programs; a test compares the two.
"""


def http_page(document: Record) -> str:
    """Write the page of an OpenAPI document."""
    parts = [_HTTP_INTRODUCTION]
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag.get('description', '')}".rstrip())
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    parts += _operation(method.upper(), path, operation)
    parts += [*_shapes(document), *_problems(document)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _operation(method: str, path: str, operation: Record) -> list[str]:
    """Write one operation: what it does, what it takes, what it answers."""
    parts = [f"### {method} {path}", operation.get("description", operation["summary"])]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [
            (f"`{each['name']}`", each["in"], _kind(each["schema"]), _text(each))
            for each in parameters
        ]
        parts.append(_table(("option", "in", "accepted", "meaning"), rows))
    body = operation.get("requestBody")
    if body:
        known = {each["name"] for each in parameters}
        parts.append(f"**Body.** {body.get('description', '')}".strip())
        parts += [_body(kind, content, known) for kind, content in body["content"].items()]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            parts += _good_answer(status, answer)
    refused = list(_refusals(operation))
    if refused:
        named = ", ".join(f"{status} [{slug}](#{slug})" for status, slug in refused)
        parts.append(f"**Problems.** {named}.")
    return parts


def _body(kind: str, content: Record, known: set[str]) -> str:
    """Write what a body of that kind has: a line, or a table of its fields that are not known."""
    schema = content.get("schema", {})
    properties = schema.get("properties")
    if not properties:
        return f"`{kind}`: {_text(schema) or _kind(schema)}"
    required = schema.get("required", [])
    rows = [
        (f"`{name}`", _kind(field) + (", needed" if name in required else ""), _text(field))
        for name, field in properties.items()
        if name not in known
    ]
    return f"`{kind}`:\n\n" + _table(("field", "accepted", "meaning"), rows)


def _good_answer(status: str, answer: Record) -> list[str]:
    """Write a good answer: what it is, of which shape, and an example."""
    contents = answer.get("content", {})
    kinds = ", ".join(f"`{kind}`" for kind in contents)
    parts = [f"**{status}.** {answer['description'].strip()}" + (f" ({kinds})" if kinds else "")]
    for kind, content in contents.items():
        shape = _kind(content.get("schema", {}))
        if shape.startswith("["):
            parts.append(f"Its shape: {shape}.")
        example = content.get("example")
        if example is None:
            continue
        if kind == "application/json":
            parts.append(f"```json\n{layout(_shortened(example), 110)}\n```")
        else:
            parts.append(f"```text\n{str(example).strip()}\n```")
    return parts


def _shortened(value: Any) -> Any:
    """Leave of a long list of numbers or rows its first, and of another two items; then a "…"."""
    if isinstance(value, Mapping):
        return {name: _shortened(each) for name, each in value.items()}
    if not isinstance(value, list):
        return value
    kept = value
    if len(value) > _LONG:
        kept = value[: 2 if isinstance(value[0], Mapping) else 1]
    return [*map(_shortened, kept), *(["…"] if len(kept) < len(value) else [])]


def _refusals(operation: Record) -> Iterator[tuple[str, str]]:
    """Give each status with the slug of each problem that it may be."""
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/problem+json", {})
        for slug in content.get("examples", {}):
            yield status, slug


def _shapes(document: Record) -> list[str]:
    """Write every shape of an answer as a table of its members."""
    parts = ["## Shapes of answers"]
    for name, schema in document["components"]["schemas"].items():
        parts += [f"### {name}", schema.get("description", "")]
        if "enum" in schema:
            parts.append(_kind(schema))
        required = schema.get("required", [])
        rows = [
            (
                f"`{member}`",
                _kind(field) + ("" if member in required else ", may be absent"),
                _text(field),
            )
            for member, field in schema.get("properties", {}).items()
        ]
        if rows:
            parts.append(_table(("member", "is", "meaning"), rows))
    return parts


def _problems(document: Record) -> list[str]:
    """Write every problem by its status, with an example of its detail."""
    found = _declared(document)
    anywhere = {
        (str(kind.status), kind.slug): {"title": kind.title, "detail": kind.example}
        for error, kind in PROBLEMS.items()
        if kind.slug and kind.status != _CLIENT_LEFT and not error.__subclasses__()
    }
    parts = [
        "## Problems",
        "What is refused is answered with a problem document (RFC 9457, "
        "`application/problem+json`). Its `type` is `/problems/` and the name below; `detail` says "
        "what is wrong and what would be right.",
    ]
    for (status, slug), problem in sorted((anywhere | found).items()):
        parts.append(f"### {slug}\n\n{status}: {problem['title']}. For example:")
        parts.append(f"> {problem['detail']}")
        if (status, slug) not in found:
            parts.append("Told before there is a route, or by the command line alone.")
    return parts


def _declared(document: Record) -> dict[tuple[str, str], Record]:
    """Collect the problems that the document declares, by status and slug."""
    found: dict[tuple[str, str], Record] = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/problem+json", {})
                for slug, example in content.get("examples", {}).items():
                    found[status, slug] = example["value"]
    return found


def _kind(schema: Record) -> str:
    """Say in a few words what a schema accepts."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for joined in ("anyOf", "oneOf", "allOf"):
        if joined in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[joined]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array" and "prefixItems" in schema:
        kinds = dict.fromkeys(map(_kind, schema["prefixItems"]))
        return f"list of {len(schema['prefixItems'])}: {' or '.join(kinds)}"
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    words = "file" if schema.get("format") == "binary" else str(kind)
    return words + _bounds(schema)


def _bounds(schema: Record) -> str:
    """Say between what a number lies, or how long a text may be."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    if "exclusiveMinimum" in schema:
        return f", above {schema['exclusiveMinimum']:g}"
    if low is not None:
        return f", at least {low:g}"
    return f", at most {schema['maxLength']} letters" if "maxLength" in schema else ""


def _text(schema: Record) -> str:
    """Give the description, of a list without one that of its items."""
    return str(schema.get("description") or schema.get("items", {}).get("description", ""))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table; what would end a cell early is escaped."""
    head = list(header)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def options_page() -> str:
    """Write the page of all programs."""
    parts = [_OPTIONS_INTRODUCTION]
    for name, program in PROGRAMS.items():
        command = typer.main.get_command(program)
        parts += [f"## {name}", command.help or "", *_commands(command, name)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _commands(command: Any, path: str) -> Iterator[str]:
    """Write each command below one, and those below them."""
    if not isinstance(command, TyperGroup):
        return
    for name, each in command.commands.items():
        here = f"{path} {name}"
        if isinstance(each, TyperGroup):
            yield from _commands(each, here)
        elif not each.hidden:
            yield f"### {here}"
            yield " ".join((each.help or "").split())
            rows = [_parameter(parameter) for parameter in each.params]
            yield _table(("argument or option", "default", "meaning"), rows) if rows else ""


def _parameter(parameter: Any) -> tuple[str, str, str]:
    """Write one line of a command's table."""
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{each}`" for each in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    return name, "needed" if parameter.required else shown, str(parameter.help or "")


def main() -> None:
    """Write both pages."""
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    (ROOT / "docs" / "http.md").write_text(http_page(document), encoding="utf-8")
    (ROOT / "docs" / "options.md").write_text(options_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
