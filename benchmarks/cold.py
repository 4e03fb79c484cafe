"""From nothing to the first caption: how long a start takes, and what a running service occupies.

    python -m benchmarks.cold [--seconds 20]

Each start is a new process, as an operator or an autoscaler begins one: its files are in the
system's cache after the first, so that reading them from the disk is not in the figures. `ready`
is when `/readyz` first answers 200, `first caption` when a photo that is sent then has its
caption; both count from the start of the process. The starts take turns with each runtime that the
service can be told to use, and the medians count. What limits them is importing Python modules
(PyTorch above all), reading and verifying the weights, starting the decoder processes, and the
canary photo, which is the first to be captioned and finds everything cold.

Resident memory is that of all processes together, idle after the first caption and at its most
under load; what they have in common counts in each. The environment is the sum of the files of the
packages that the service installs, whatever else is installed beside them.

Prints a table for people; the last line of standard output is one JSON document.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, get_args

from app.core.settings import Settings
from benchmarks.offered_load import closed
from benchmarks.photos import photo_uploads
from benchmarks.reports import rounded, show, table
from benchmarks.soak.client import send
from benchmarks.soak.load import Mix
from benchmarks.soak.server import free_port, serving
from deploy.pins import closure, direct_requirements

CLIENTS = 32
LOAD_PART = 0.4  # of the time; the rest is for starts
LEAST_STARTS = 1
REFERENCE = "torch"
NO_CHOICE = ("auto", REFERENCE)
PATH = "/caption?beam_size=3"
Start = dict[str, float]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the start of the service.")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for all together")
    return parser.parse_args()


def exported_runtimes(annotation: Any) -> list[str]:
    """List the runtimes without PyTorch that a setting may name, by the setting's type."""
    return [str(name) for name in get_args(annotation) if name not in NO_CHOICE]


def runtimes() -> dict[str, dict[str, str]]:
    """Give the runtimes of the service by their names, each with the variables that choose it."""
    field = Settings.model_fields.get("runtime")
    if field is None:
        return {REFERENCE: {}}
    names = [REFERENCE, *exported_runtimes(field.annotation)]
    return {name: {"GLIMPSE_RUNTIME": name} for name in names}


async def start_once(settings: Mapping[str, str]) -> Start:
    """Start the service, have one photo captioned, and end it; the times in seconds."""
    began = time.monotonic()
    with serving(free_port(), settings) as server:
        ready = time.monotonic() - began
        outcome = await send(server.port, photo_uploads()[0], PATH)
        if not outcome.captioned:
            raise RuntimeError(f"The first photo was answered {outcome.status}.")
        first = time.monotonic() - began
        idle = server.sample().memory_bytes / 1e6
    return {"ready_seconds": ready, "first_caption_seconds": first, "idle_megabytes": idle}


async def load_once(settings: Mapping[str, str], seconds: float) -> dict[str, float | None]:
    """Start the service and load it; what it has resident at its most."""
    mix = Mix(photo_uploads(), (), bad_share=0.0, hang_up_share=0.0, drawings=0.0, path=PATH)
    with serving(free_port(), settings) as server:
        load = await closed(server, mix, clients=CLIENTS, seconds=seconds)
    return {"loaded_megabytes": load.resident_megabytes}


async def measure(seconds: float) -> dict[str, dict[str, float | None]]:
    """Give the medians of each runtime's starts, and its memory under load."""
    chosen = runtimes()
    starts: dict[str, list[Start]] = {name: [] for name in chosen}
    end = time.monotonic() + (1 - LOAD_PART) * seconds
    while len(starts[REFERENCE]) < LEAST_STARTS or time.monotonic() < end:
        for name, settings in chosen.items():
            starts[name].append(await start_once(settings))
    found: dict[str, dict[str, float | None]] = {}
    for name, settings in chosen.items():
        each = LOAD_PART * seconds / len(chosen)
        found[name] = {
            key: statistics.median(one[key] for one in starts[name]) for key in starts[name][0]
        }
        found[name] |= await load_once(settings, each)
        found[name]["starts"] = float(len(starts[name]))
    return found


def environment_bytes() -> int:
    """Sum the files of all packages that the service installs."""
    total = 0
    for name in closure(direct_requirements()):
        for file in distribution(name).files or []:
            path = Path(str(file.locate()))
            total += path.stat().st_size if path.is_file() else 0
    return total


def first_exported(found: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """Give the seconds to ready of the quickest runtime without PyTorch; None without any."""
    times = [each["ready_seconds"] for name, each in found.items() if name != REFERENCE]
    return min((each for each in times if each is not None), default=None)


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    asked = arguments()
    found = asyncio.run(measure(asked.seconds))
    megabytes = environment_bytes() / 1e6
    header = ["runtime", "starts", "ready s", "first caption s", "idle MB", "loaded MB"]
    keys = ("ready_seconds", "first_caption_seconds", "idle_megabytes", "loaded_megabytes")
    rows = [
        [
            name,
            show(each["starts"], 0),
            *(show(each[key], 2 if key[-1] == "s" else 0) for key in keys),
        ]
        for name, each in found.items()
    ]
    print(table(header, rows))
    print(f"environment of the service: {megabytes:.0f} MB")
    document = {
        "benchmark": "cold",
        "ready_seconds": found[REFERENCE]["ready_seconds"],
        "ready_exported_seconds": first_exported(found),
        "environment_megabytes": megabytes,
        "runtimes": found,
    }
    sys.stdout.flush()
    print(json.dumps(rounded(document)))


if __name__ == "__main__":
    main()
