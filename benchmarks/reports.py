"""How benchmarks say what they found: rounded JSON, tables, and each other's last lines."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "last_document", "rounded", "run_module", "show", "table"]

ROOT = Path(__file__).resolve().parents[1]
_DIGITS = 4


def rounded(value: Any) -> Any:
    """Round every number of a JSON value to four significant digits, or to whole numbers."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if abs(value) < 10**_DIGITS else float(round(value))
    return value


def show(value: float | None, digits: int = 2, scale: float = 1.0) -> str:
    """Write a number for a table; a dash where it is not known."""
    return "–" if value is None else f"{scale * value:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, *rows]
    )


def last_document(text: str) -> dict[str, Any]:
    """Read the JSON object in the last line of a benchmark's output.

    Raises ValueError where there is none.
    """
    lines = text.strip().splitlines()
    document = json.loads(lines[-1]) if lines else None
    if not isinstance(document, dict):
        raise ValueError("The last line of a benchmark is one JSON object.")
    return document


def run_module(module: str, *options: str) -> dict[str, Any]:
    """Run another benchmark in a process of its own; give its document.

    Raises RuntimeError with the end of what it said where it fails.
    """
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-2000:]}")
    return last_document(done.stdout)
