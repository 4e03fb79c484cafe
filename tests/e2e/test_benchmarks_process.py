"""`make bench` as a process: its last line has the figures, and a part that fails is not hidden."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import missing_packages
from benchmarks.serve_charts import CHARTS
from benchmarks.summary import KEYS

WAIT_SECONDS = 240


def bench(
    repository: Path, *options: str, timeout_seconds: float = WAIT_SECONDS, **settings: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=repository,
        env=os.environ | {f"GLIMPSE_{name.upper()}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    return done, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_bench_of_a_fake_captioner_gives_the_figures_of_its_loads_and_the_charts(
    repository: Path, tmp_path: Path
) -> None:
    options = ("--only", "serve", "--scale", "0.05", "--charts", str(tmp_path))

    done, document = bench(repository, *options, captioner="fake")

    assert done.returncode == 0, done.stdout + done.stderr
    assert document.keys() >= KEYS.keys()
    served = document["benchmarks"]["serve"]
    assert [load["name"] for load in served["loads"]][:2] == ["1 client", "32 clients"]
    assert [load["name"] for load in served["loads"]][2:] == ["25%", "50%", "70%", "90%", "150%"]
    assert served["failed"] == 0
    assert served["exit_status"] == 0
    assert document["share_of_ideal"] > 0
    assert document["resident_megabytes"] > 50
    assert document["throughput_vs_naive"] is None  # it was left out
    assert "== summary ==" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == set(CHARTS)


@pytest.mark.slow
def test_bench_with_a_part_that_fails_says_so_and_still_ends_with_its_document(
    repository: Path,
) -> None:
    options = ("--only", "serve", "--scale", "0.01")

    done, document = bench(repository, *options, captioner="none of the two")

    assert done.returncode == 1
    assert document["failed"] == ["serve"]
    assert document["share_of_ideal"] is None
    assert "serve failed" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_packages()), reason="the extra `bench` is not installed")
def test_bench_has_every_figure_in_its_last_line(repository: Path) -> None:
    done, document = bench(repository, "--scale", "0.2", timeout_seconds=1800)

    assert done.returncode == 0, done.stdout + done.stderr
    missing = {name for name in KEYS if document[name] is None}
    assert missing <= {"ready_exported_seconds", "refusal_p99_seconds"}
