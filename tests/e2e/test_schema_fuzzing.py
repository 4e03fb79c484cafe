"""Schemathesis against the service as a process: whatever the API's document allows, and what it
forbids, is sent; no answer is a 500, of an undeclared status or type, or of another shape than the
document says.

It reads the document that the service publishes, so it needs no change where the API has one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import Server, serving

pytestmark = pytest.mark.e2e

SECONDS = 540
SEED = 11
# A schema cannot say which bytes are a picture, nor that num_captions may not exceed beam_size:
# what it allows may rightly be a 415 or a 422.
BEYOND_A_SCHEMA = "positive_data_acceptance"


def fuzz(
    server: Server, folder: Path, repository: Path, *options: str, examples: int
) -> tuple[int, str]:
    """The exit code of Schemathesis and what it says."""
    address = f"http://127.0.0.1:{server.port}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
    command += ["--url", address, "--seed", str(SEED), "--max-examples", str(examples)]
    command += ["--checks", "all", "--exclude-checks", BEYOND_A_SCHEMA, "--no-color", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks",
            "PYTHONPATH": str(repository),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def answers(server: Server) -> dict[tuple[str, str], int]:
    """How often each route has answered with each status, as the service counts."""
    found = re.findall(
        r'^glimpse_http_requests_total\{method="[^"]+",route="([^"]+)",status="(\d+)"\} (\S+)$',
        server.get("/metrics"),
        re.MULTILINE,
    )
    counts: dict[tuple[str, str], int] = {}
    for route, status, count in found:
        counts[route, status] = counts.get((route, status), 0) + int(float(count))
    return counts


def check(server: Server, code: int, report: str) -> None:
    """Schemathesis is content, and the service itself has seen good answers and no 500."""
    assert code == 0, report
    generated = re.search(r"(\d+) generated", report)
    assert generated, report
    counts = answers(server)
    for route, status in (("/caption", "200"), ("/caption/batch", "200"), ("/jobs", "202")):
        assert counts[route, status] > 0, counts
    assert [key for key in counts if key[1] == "500"] == []
    assert not re.search(r"^\S+ (ERROR|CRITICAL) ", server.log.read_text(), re.MULTILINE)
    assert "Traceback" not in server.log.read_text()
    print(generated[0], counts)  # noqa: T201  shown with -s: the figures of the report


def test_schema_whatever_it_allows_or_forbids_is_answered_as_declared(
    tmp_path: Path, repository: Path
) -> None:
    with serving(tmp_path, repository, log_format="text", jobs_folder=tmp_path) as server:
        code, report = fuzz(
            server, tmp_path, repository, "--phases", "examples,coverage,fuzzing", examples=5
        )
        check(server, code, report)


@pytest.mark.slow
@pytest.mark.parametrize("captioner", ["fake", "real"])
def test_schema_fuzzed_for_long_is_answered_as_declared(
    tmp_path: Path, repository: Path, captioner: str
) -> None:
    examples = 300 if captioner == "fake" else 100
    with serving(tmp_path, repository, captioner=captioner, jobs_folder=tmp_path) as server:
        code, report = fuzz(server, tmp_path, repository, examples=examples)
        check(server, code, report)
