"""Sentences and their translations: both layouts of files, and what is refused, in words."""

import gzip
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import ConfigError
from training.data.pairs import (
    PairsConfig,
    SentencePair,
    hold_out,
    read_all_pairs,
    read_pairs,
)

SOURCES = "A dog.\nTwo cats.\n"
TARGETS = "Ein Hund.\nZwei Katzen.\n"
WANTED = [SentencePair("A dog.", "Ein Hund."), SentencePair("Two cats.", "Zwei Katzen.")]


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    return folder


def parallel(folder: Path, sources: str = SOURCES, targets: str = TARGETS) -> PairsConfig:
    write(folder, en=sources, de=targets)
    return PairsConfig(name="toy", source=folder / "en", target=folder / "de")


def tabbed(folder: Path, text: str) -> PairsConfig:
    write(folder, tsv=text)
    return PairsConfig(name="toy", pairs=folder / "tsv")


def test_two_files_give_pairs_line_by_line(tmp_path: Path) -> None:
    assert read_pairs(parallel(tmp_path)) == WANTED


def test_compressed_files_and_those_of_windows_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "en").write_bytes(gzip.compress(SOURCES.encode()))
    (tmp_path / "de").write_bytes(b"\xef\xbb\xbf" + TARGETS.replace("\n", "\r\n").encode())
    config = PairsConfig(name="toy", source=Path("en"), target=Path("de")).below(tmp_path)
    assert read_pairs(config) == WANTED


def test_one_file_with_tabs_gives_the_same_pairs(tmp_path: Path) -> None:
    assert read_pairs(tabbed(tmp_path, "A dog.\tEin Hund.\nTwo cats. \tZwei Katzen.")) == WANTED


def test_several_sets_come_behind_each_other_with_their_weights(tmp_path: Path) -> None:
    one = parallel(tmp_path)
    both = read_all_pairs([one, one.model_copy(update={"weight": 0.5})])
    assert [pair.weight for pair in both] == [1.0, 1.0, 0.5, 0.5]


def test_files_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"en has 2 lines and .*de 1: line for line"):
        read_pairs(parallel(tmp_path, targets="Ein Hund.\n"))


@pytest.mark.parametrize(
    ("sources", "targets", "place"),
    [("A dog.\n \n", TARGETS, "en, line 2"), (SOURCES, "\nZwei Katzen.\n", "de, line 1")],
)
def test_empty_line_is_refused_with_its_place(
    tmp_path: Path, sources: str, targets: str, place: str
) -> None:
    with pytest.raises(ConfigError, match=f"{place}: is empty"):
        read_pairs(parallel(tmp_path, sources, targets))


@pytest.mark.parametrize("line", ["A dog. Ein Hund.", "A dog.\tEin\tHund."])
def test_line_without_exactly_one_tab_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="line 2: must be a sentence, one tab"):
        read_pairs(tabbed(tmp_path, f"A dog.\tEin Hund.\n{line}\n"))


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1: is empty"):
        read_pairs(tabbed(tmp_path, "A dog.\t\n"))


def test_absent_empty_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pairs(PairsConfig(name="toy", pairs=tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="'toy' has no lines"):
        read_pairs(tabbed(tmp_path, ""))
    (tmp_path / "tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_pairs(PairsConfig(name="toy", pairs=tmp_path / "tsv"))
    (tmp_path / "tsv").write_bytes(gzip.compress(b"A dog.\tEin Hund.\n")[:-9])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pairs(PairsConfig(name="toy", pairs=tmp_path / "tsv"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source": "en"},
        {"pairs": "tsv", "target": "de"},
        {"pairs": "tsv", "weight": 0},
        {"pairs": "tsv", "language": "de"},
    ],
)
def test_layouts_that_are_none_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PairsConfig.model_validate({"name": "toy", **fields})


def test_hold_out_parts_the_pairs_evenly_and_no_source_is_on_both_sides() -> None:
    pairs = [SentencePair(f"source {n // 2}", f"target {n}") for n in range(100)]
    rest, held = hold_out(pairs, 10)
    assert [pair.target for pair in held] == [f"target {n}" for n in range(0, 100, 10)]
    assert len(rest) == 80
    assert not {pair.source for pair in rest} & {pair.source for pair in held}


def test_hold_out_of_too_many_is_refused() -> None:
    with pytest.raises(ConfigError, match="Hold out fewer"):
        hold_out(WANTED * 5, 8)
