"""The results document: its dump is the file that was read, and its rows are records."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from evaluation.results import Results


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "results.json").read_text(encoding="utf-8")


def test_results_dump_is_the_document_that_was_read(text: str) -> None:
    assert Results.model_validate_json(text).dump() == text


def test_results_of_maps_alone_have_no_table(text: str) -> None:
    document = {"maps": json.loads(text)["maps"]}
    results = Results.model_validate(document)
    assert results.table is None
    assert json.loads(results.dump()) == document
    assert json.loads(Results().dump()) == {}


def test_results_with_an_unknown_key_are_refused(text: str) -> None:
    document = json.loads(text)
    document["models"]["nic"]["colour"] = "red"
    with pytest.raises(ValidationError, match="colour"):
        Results.model_validate(document)


def test_difference_turned_says_the_opposite(text: str) -> None:
    table = Results.model_validate_json(text).table
    assert table is not None
    for difference in table.differences:
        turned = difference.turned()
        assert (turned.first, turned.second) == (difference.second, difference.first)
        assert turned.low <= turned.value <= turned.high
        assert turned.turned() == difference


def test_table_shipped_leaves_out_what_is_not(text: str) -> None:
    table = Results.model_validate_json(text).table
    assert table is not None
    assert set(table.models) - set(table.shipped()) == set(table.not_shipped)
