"""Every awkward file of the corpus through `POST /caption`: its declared outcome as an answer."""

import json

import pytest
from fastapi.testclient import TestClient

from app.api.problem_kinds import PROBLEMS
from tests.corpus.case import Case
from tests.corpus.cases import CASES
from tests.corpus.outcomes import built, differences

STATUSES = {kind.slug: kind.status for kind in PROBLEMS.values()}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.is_heavy else [])
        for case in CASES
    ],
)
def test_corpus_file_is_answered_as_declared(client: TestClient, case: Case) -> None:
    answer = client.post("/caption", files={"image": ("photo.jpg", built(case), "image/jpeg")})
    document = json.loads(answer.text)
    if answer.status_code == 200:
        size = (document["image"]["width"], document["image"]["height"])
        warnings = document.get("warnings", [])
        assert not differences(case.outcome, code=None, size=size, warnings=warnings)
        assert document["caption"]
    else:
        code = document["type"].removeprefix("/problems/")
        assert not differences(case.outcome, code=code)
        assert answer.status_code == document["status"] == STATUSES[code]
        assert document["detail"].endswith(".")
