"""What the project pins, and what an installation brings along, from pyproject.toml,
constraints.txt and the metadata of what is installed. Knows no network."""

import importlib.metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["ROOT", "closure", "direct_requirements", "pinned"]

ROOT = Path(__file__).resolve().parent.parent


def direct_requirements(*extras: str) -> list[str]:
    """List the requirements of pyproject.toml: those of the service, then those of `extras`.

    An extra that stands on another one lists that one's.
    """
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    found = list(project["dependencies"])
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            own = Requirement(line)
            found += _of_extras(project, own) if own.name == project["name"] else [line]
    return found


def _of_extras(project: dict[str, Any], own: Requirement) -> list[str]:
    return [line for extra in own.extras for line in project["optional-dependencies"][extra]]


def pinned(direct: Iterable[str]) -> dict[str, str]:
    """Give the versions that an installation of `direct` is held to: distribution -> version.

    Raises ValueError where a requirement has no exact version, or a distribution has two pins.
    """
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = [line for line in lines if line and line[0] != "#"]
    pins: dict[str, str] = {}
    for requirement in map(Requirement, [*direct, *constraints]):
        for specifier in requirement.specifier:
            if specifier.operator != "==":
                raise ValueError(f"{requirement} is no exact version")
            name = canonicalize_name(requirement.name)
            if name in pins:
                raise ValueError(f"{requirement.name} is pinned twice")
            pins[name] = specifier.version
    return pins


def closure(requirements: Iterable[str]) -> set[str]:
    """Find the distributions that `requirements` stand for on this machine, and all that those
    pull in, with the extras that they ask for.

    Raises importlib.metadata.PackageNotFoundError where one is not installed.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras} - {each for known, each in seen if known == name}:
            seen.add((name, wanted))
            needed = importlib.metadata.requires(name) or []
            waiting += [(Requirement(line), wanted) for line in needed]
    return {name for name, _ in seen}
