"""Two minutes of coverage-guided fuzzing of decode_image."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.repository import ROOT

SECONDS = 120


@pytest.mark.slow
def test_fuzzed_files_end_in_an_image_or_in_a_known_problem(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or machine")
    findings = tmp_path / "findings"
    findings.mkdir()
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fuzz.decode_image",
            str(tmp_path / "seeds"),
            f"-max_total_time={SECONDS}",
            f"-artifact_prefix={findings}/",
            "-print_final_stats=1",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-4_000:]
    assert list(findings.iterdir()) == []
    executed = re.search(r"number_of_executed_units: (\d+)", answer.stderr)
    assert executed is not None
    assert int(executed[1]) > 1_000, "it hardly ran"
