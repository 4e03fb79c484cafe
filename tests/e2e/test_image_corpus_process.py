"""A file of each kind of the corpus sent to a real server: answered as declared, and nothing in its
log but lines of its own."""

import re
from pathlib import Path

import pytest

from tests.corpus.cases import GROUPS
from tests.corpus.outcomes import built, differences
from tests.e2e.server import serving

pytestmark = pytest.mark.e2e

LINE = re.compile(r"20\d\d-\d\d-\d\dT\S+ (INFO|WARNING|ERROR) ")


def test_a_file_of_each_kind_is_answered_by_a_server_that_stays_sound(
    tmp_path: Path, repository: Path
) -> None:
    cases = [
        case for group in GROUPS for case in (group.cases[0], group.cases[-1]) if not case.is_heavy
    ]
    wrong = []
    with serving(tmp_path, repository) as server:
        for case in cases:
            status, document = server.caption(built(case))
            if status == 200:
                size = (document["image"]["width"], document["image"]["height"])
                warnings = document.get("warnings", [])
                found = differences(case.outcome, code=None, size=size, warnings=warnings)
            else:
                code = document["type"].removeprefix("/problems/")
                found = differences(case.outcome, code=code)
            wrong += [f"{case.name}: {each}" for each in found]
        assert not wrong
        assert "ready" in server.get("/readyz")
        lines = server.log.read_text().splitlines()
    raw = [line for line in lines if not LINE.match(line)]
    assert not raw, raw
    assert not [line for line in lines if " ERROR " in line]
