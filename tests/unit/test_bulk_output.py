"""Outputs of many captions: cut anywhere, they are gone on with and come out the same; what is
somebody else's stays untouched."""

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest

from app.bulk.formats import OutputFormat, choose_format
from app.bulk.parquet import ParquetWriter, read_shards, write_shard
from app.bulk.rows import COLUMNS, Row
from app.bulk.writer import open_writer
from app.core.errors import BulkOutputError

LINES = [OutputFormat.jsonl, OutputFormat.csv]
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
CHOICES = ({"text": "a dog", "confidence": 0.5, "logprob": -1.5},)


def captioned(name: str) -> Row:
    return Row(
        file=name,
        caption="a dog",
        confidence=0.5,
        logprob=-1.5,
        captions=CHOICES,
        width=40,
        height=30,
        format="JPEG",
        model="toy",
        digest="d" * 8,
        warnings=("Something is missing.",),
    )


def refused(name: str) -> Row:
    return Row(file=name, problem="damaged-image", detail="The file ends early.")


ROWS = [
    captioned("a.jpg"),
    refused("b.jpg"),
    captioned('folder/with "quotes",\nand a line\'s end.jpg'),
    captioned("carriage\rreturn zwölf \u2028.jpg"),
    captioned("\\udcff.jpg"),
]


def write(path: Path, rows: Sequence[Row], output_format: OutputFormat | None = None) -> None:
    """Open the output, as a run does, and write the rows that it does not have."""
    writer = open_writer(path, choose_format(path, output_format))
    for row in rows:
        if row.file not in writer.written.files:
            writer.write(row)
    writer.close()


@pytest.mark.parametrize("kind", LINES)
def test_output_cut_anywhere_is_completed_to_the_same_bytes(
    kind: OutputFormat, tmp_path: Path
) -> None:
    path = tmp_path / f"out.{kind}"
    write(path, ROWS)
    whole = path.read_bytes()
    for cut in {*range(0, len(whole), 11), *range(len(whole) - 20, len(whole))}:
        path.write_bytes(whole[:cut])
        write(path, ROWS)
        assert path.read_bytes() == whole, cut


@pytest.mark.parametrize("kind", OutputFormat)
@hypothesis.settings(max_examples=25)
@hypothesis.given(names=st.sets(NAMES, min_size=1, max_size=5))
def test_output_knows_the_photos_that_it_has_whatever_their_names(
    kind: OutputFormat, names: set[str]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "out")
        write(path, [captioned(name) for name in sorted(names)], kind)
        writer = open_writer(path, kind)
        assert writer.written.files == names
        writer.close()


@pytest.mark.parametrize("kind", LINES)
def test_output_with_zeros_of_a_power_failure_is_completed(
    kind: OutputFormat, tmp_path: Path
) -> None:
    path = tmp_path / f"out.{kind}"
    write(path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes(30))
    write(path, ROWS)
    assert path.read_bytes() == whole


def test_json_lines_have_the_filled_columns_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["file"] for line in lines] == [row.file for row in ROWS]
    assert lines[0]["captions"] == list(CHOICES)
    assert lines[1] == {
        "file": "b.jpg",
        "problem": "damaged-image",
        "detail": "The file ends early.",
    }


def test_csv_is_read_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write(path, ROWS)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["file"] for row in rows] == [row.file for row in ROWS]
    assert json.loads(rows[0]["captions"]) == list(CHOICES)
    assert rows[1]["problem"] == "damaged-image"


def test_parquet_is_read_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write(path, ROWS)
    found = pq.read_table(path).to_pylist()
    expected = [{**row.as_dict(), "captions": list(row.captions)} for row in ROWS]
    assert found == [{**row, "warnings": list(row["warnings"])} for row in expected]


def test_parquet_keeps_whole_files_and_goes_on_behind_them(tmp_path: Path) -> None:
    folder = tmp_path / "out.parquet"
    writer = ParquetWriter(folder, rows_a_shard=2)
    for row in ROWS:
        writer.write(row)
    os.close(writer._descriptor)  # killed: the last row was in no file yet
    (folder / ".part-00002.parquet.unfinished").write_bytes(b"PAR1half")
    again = ParquetWriter(folder, rows_a_shard=2)
    assert again.written.files == {row.file for row in ROWS[:4]}
    assert again.written.failed == 1
    again.write(ROWS[4])
    again.close()
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        f"part-{number:05d}.parquet" for number in range(3)
    ]
    assert pq.read_table(folder)["file"].to_pylist() == [row.file for row in ROWS]


def test_shard_written_again_replaces_itself(tmp_path: Path) -> None:
    path = tmp_path / "part-task-7.parquet"
    write_shard(path, ROWS[:2])
    write_shard(path, ROWS[:2])
    assert read_shards(tmp_path).files == {"a.jpg", "b.jpg"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("out.jsonl", b'{"caption": "a list of somebody"}\n'),
        ("out.jsonl", b"all on one line, without an end"),
        ("out.jsonl", b'["file"]\n'),
        ("out.jsonl", b'{"file": "a.jpg", "problem": "x"}\nnot JSON\n{"file": "b.jpg"}\n'),
        ("out.csv", b"name,price\napples,3\n"),
        ("out.csv", b"one line"),
        ("out.csv", b"\xff\xfe\n"),
    ],
)
def test_output_of_somebody_else_is_refused_and_left_as_it_is(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BulkOutputError, match="is no row of glimpse bulk"):
        open_writer(path, choose_format(path, None))
    assert path.read_bytes() == content


def test_line_that_is_no_row_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"file": "a.jpg", "problem": "x"}\nnot JSON\n')
    with pytest.raises(BulkOutputError, match=r"out\.jsonl, line 2: "):
        open_writer(path, OutputFormat.jsonl)


def test_parquet_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(BulkOutputError, match="is damaged"):
        ParquetWriter(tmp_path)
    file = tmp_path / "file.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(BulkOutputError, match="is a file, but Parquet is written as a folder"):
        ParquetWriter(file)


@pytest.mark.parametrize("kind", OutputFormat)
def test_output_is_written_by_one_run_at_a_time(kind: OutputFormat, tmp_path: Path) -> None:
    path = tmp_path / "out"
    first = open_writer(path, kind)
    with pytest.raises(BulkOutputError, match="another run"):
        open_writer(path, kind)
    first.write(ROWS[0])
    first.close()
    write(path, ROWS[:1], kind)


@pytest.mark.parametrize("kind", LINES)
def test_output_that_is_no_file_is_refused_without_waiting(
    kind: OutputFormat, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(BulkOutputError, match="is no file"):
            open_writer(path, kind)


@pytest.mark.parametrize("kind", OutputFormat)
def test_output_that_cannot_be_written_says_so(kind: OutputFormat, tmp_path: Path) -> None:
    with pytest.raises(BulkOutputError, match="cannot be written: No such file or directory"):
        open_writer(tmp_path / "none" / "out", kind)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    writer = open_writer(path, OutputFormat.jsonl)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file.fileno())  # type: ignore[attr-defined]
    os.close(full)
    with pytest.raises(BulkOutputError, match="cannot be written: No space left on device"):
        writer.write(ROWS[0])
    with pytest.raises(BulkOutputError, match="No space left"):
        writer.close()


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BulkOutputError, match=r"pip install 'glimpse\[parquet\]'"):
        open_writer(tmp_path / "out.parquet", OutputFormat.parquet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.txt", "out", "out.json"])
def test_name_that_says_no_format_asks_for_one(name: str) -> None:
    with pytest.raises(BulkOutputError, match=r"\.jsonl, \.csv or \.parquet"):
        choose_format(Path(name), None)
    assert choose_format(Path(name), OutputFormat.csv) is OutputFormat.csv
