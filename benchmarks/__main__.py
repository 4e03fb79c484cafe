"""Every benchmark, one after another: `make bench`.

    python -m benchmarks [--only serve cold] [--scale 0.5] [--charts docs/images]
    make bench ARGS="--scale 0.2"

Each runs in a process of its own, with the machine to itself, and prints its tables; what limits
its figures stands in its docstring. They take some minutes together; `--scale` shortens or
lengthens all. Whatever else runs on the machine takes its share, and the figures then say nothing.
The last line of standard output is one JSON document: the figures that the project is held to
(`benchmarks/summary.py`), null where one could not be had, and the documents of all benchmarks.
Ends with 1 where a benchmark failed; the others are run all the same.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.reports import ROOT, last_document, rounded, show, table
from benchmarks.summary import summarize

SECONDS = {"stages": 45, "one_thread": 30, "serve": 90, "peers": 75, "train": 40, "cold": 20}
"""How long each of them measures; loading models comes on top."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure everything on this machine."
    )
    parser.add_argument("--only", nargs="+", choices=SECONDS, default=list(SECONDS))
    parser.add_argument("--scale", type=float, default=1.0, help="of the time that each takes")
    parser.add_argument("--charts", type=Path, help="a folder to draw the charts into, as PNG")
    parser.add_argument(
        "--train-env", default="", help="variables that training runs with: NAME=VALUE ..."
    )
    asked = parser.parse_args(words)
    if asked.scale <= 0:
        parser.error("--scale must be above 0")
    return asked


def command(name: str, asked: argparse.Namespace) -> list[str]:
    """Give the command line of one benchmark."""
    words = [sys.executable, "-m", f"benchmarks.{name}"]
    words += ["--seconds", f"{asked.scale * SECONDS[name]:g}"]
    if name == "serve" and asked.charts is not None:
        words += ["--charts", str(asked.charts.resolve())]
    return words


def environment(name: str, asked: argparse.Namespace) -> dict[str, str]:
    """Give the variables that one benchmark runs with: those of `make train` for training."""
    if name != "train":
        return dict(os.environ)
    added = dict(word.partition("=")[::2] for word in asked.train_env.split())
    return os.environ | added


def run(name: str, asked: argparse.Namespace) -> dict[str, Any] | None:
    """Run one benchmark and pass its tables on; give its document, or None where it failed."""
    print(f"\n== {name} ==", flush=True)
    done = subprocess.run(
        command(name, asked),
        cwd=ROOT,
        env=environment(name, asked),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        print(*lines, f"glimpse: {name} failed, with status {done.returncode}", sep="\n")
        return None
    print(*lines[:-1], sep="\n")
    return last_document(done.stdout)


def describe_machine() -> dict[str, Any]:
    """Say what was measured on."""
    return {
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def main() -> int:
    """Run them, print the summary, and end with the JSON document."""
    asked = arguments()
    documents: dict[str, dict[str, Any]] = {}
    for name in asked.only:
        document = run(name, asked)
        if document is not None:
            documents[name] = document
    figures = summarize(documents)
    rows = [[key.replace("_", " "), show(value, 3)] for key, value in figures.items()]
    print("\n== summary ==", table(["figure", "value"], rows), sep="\n")
    failed = [name for name in asked.only if name not in documents]
    whole = {
        "benchmark": "all",
        **figures,
        "failed": failed,
        "machine": describe_machine(),
        "benchmarks": documents,
    }
    sys.stdout.flush()
    print(json.dumps(rounded(whole)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
