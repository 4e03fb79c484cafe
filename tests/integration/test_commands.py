"""The commands that need no server: what they write and say, and the number they end with. One of
them, with the shipped weights, is held to what the service answers."""

import json
import re
import shlex
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from app.cli import cli
from app.core.settings import DEFAULT_MODEL
from app.engine.fake import FakeCaptioner
from models.config import DecodingOptions

FAKE = {"GLIMPSE_CAPTIONER": "fake", "GLIMPSE_DECODE_PROCESSES": "1"}


def invoke(*arguments: str | Path, data: bytes | None = None, **variables: str) -> Result:
    words = [str(each) for each in arguments]
    return CliRunner().invoke(cli, words, input=data, env=FAKE | variables)


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is the whole process's, and not ours to set up."""
    monkeypatch.setattr("app.cli.configure_logging", lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path, image_file: bytes) -> Path:
    """Two good photos, one of them in a folder, a bad one, and a text."""
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    (photos / "a.jpg").write_bytes(image_file)
    (photos / "bad.jpg").write_bytes(b"no picture")
    (photos / "more" / "c.jpg").write_bytes(image_file)
    (photos / "notes.txt").write_text("notes")
    return photos


# -- caption ----


def test_caption_of_one_photo_is_its_sentence_alone(folder: Path) -> None:
    done = invoke("caption", folder / "a.jpg")
    assert done.exit_code == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert len(line.split()) > 2
    assert "\t" not in line
    assert done.stderr == ""


def test_captions_of_several_photos_stand_behind_their_names(folder: Path) -> None:
    done = invoke("caption", folder, folder / "a.jpg")
    assert done.exit_code == 1
    names = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert names == [str(folder / name) for name in ("a.jpg", "more/c.jpg", "a.jpg")]
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"glimpse: {folder}/bad.jpg: The file is not a picture")
    assert said.endswith("(unreadable-image)")


def test_caption_reads_standard_input(image_file: bytes, folder: Path) -> None:
    piped = invoke("caption", "-", data=image_file)
    assert piped.exit_code == 0, piped.stderr
    assert piped.stdout == invoke("caption", folder / "a.jpg").stdout
    nothing = invoke("caption", "-", data=b"")
    assert nothing.exit_code == 1
    assert "(empty-image)" in nothing.stderr
    long = invoke("caption", "-", data=bytes(2000), GLIMPSE_MAX_UPLOAD_BYTES="1024")
    assert "at most 1024 are accepted" in long.stderr


def test_caption_as_json_gives_a_problem_its_code(folder: Path) -> None:
    done = invoke("caption", "--json", folder / "bad.jpg", folder / "gone.jpg")
    assert done.exit_code == 1
    bad, gone = (json.loads(line) for line in done.stdout.splitlines())
    assert bad["file"] == str(folder / "bad.jpg")
    assert bad["problem"]["type"] == "/problems/unreadable-image"
    assert bad["problem"]["status"] == 415
    assert gone["problem"] == {
        "type": "/problems/unreadable-file",
        "title": "The file cannot be read",
        "status": 422,
        "detail": "The file cannot be read: No such file or directory.",
    }


def test_caption_gives_as_many_captions_as_are_asked_for(folder: Path) -> None:
    done = invoke("caption", "--num-captions", "3", "--beam-size", "4", folder / "a.jpg")
    assert len(done.stdout.splitlines()) == 3


def test_names_that_steer_a_terminal_are_written_visibly(folder: Path) -> None:
    odd = folder / "\x1b[31m\nred.jpg"
    odd.write_bytes(b"no picture")
    done = invoke("caption", odd)
    assert "\\x1b[31m\\nred.jpg: The file" in done.stderr
    (line,) = invoke("caption", "--json", odd).stdout.splitlines()
    assert json.loads(line)["file"] == str(odd)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--beam-size", "0"), "--beam-size"),
        (("--max-length", "51"), "--max-length"),
        (("--num-captions", "5", "--beam-size", "2"), "num_captions is 5, but beam_size is 2"),
        (("--model", "Not A Model"), "GLIMPSE_MODEL=Not A Model cannot work"),
    ],
)
def test_caption_that_cannot_work_ends_with_2(
    arguments: tuple[str, ...], said: str, folder: Path
) -> None:
    done = invoke("caption", *arguments, folder / "a.jpg")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr


def test_caption_of_a_folder_without_photos_says_so(tmp_path: Path) -> None:
    done = invoke("caption", tmp_path)
    assert done.exit_code == 2
    assert "there is no file in it that is named as a photo" in done.stderr


def test_model_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    done = invoke("caption", "--model", "nonesuch", folder / "a.jpg", GLIMPSE_CAPTIONER="real")
    assert done.exit_code == 2
    assert "No model is called 'nonesuch'. There are: base, glimpse, glimpse-grid," in done.stderr


def test_options_have_the_bounds_of_the_library() -> None:
    help_text = " ".join(invoke("caption", "--help", COLUMNS="200").stdout.split())
    bounded = {
        name: field for name, field in DecodingOptions.model_fields.items() if field.metadata
    }
    assert len(bounded) >= 4
    for name, field in bounded.items():
        least, most = (str(getattr(each, "ge", getattr(each, "le", ""))) for each in field.metadata)
        assert f"--{name.replace('_', '-')}" in help_text
        assert f"[{least}<=x<={most}]" in help_text


# -- attention ----


def test_attention_writes_the_drawing_and_the_caption(folder: Path, tmp_path: Path) -> None:
    every, one = tmp_path / "every.png", tmp_path / "one.png"
    done = invoke("attention", folder / "a.jpg", "-o", every)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == invoke("caption", folder / "a.jpg").stdout
    assert invoke("attention", folder / "a.jpg", "-o", one, "--word", "0").exit_code == 0
    with Image.open(every) as sheet, Image.open(one) as single:
        assert sheet.format == single.format == "PNG"
        assert sheet.width * sheet.height > single.width * single.height


def test_attention_into_a_pipe_is_the_drawing_alone(image_file: bytes) -> None:
    done = invoke("attention", "-", "-o", "-", data=image_file)
    assert done.exit_code == 0, done.stderr
    with Image.open(BytesIO(done.stdout_bytes)) as drawing:
        assert drawing.format == "PNG"


def test_attention_as_json_has_a_map_for_each_word(folder: Path) -> None:
    done = invoke("attention", "--json", folder / "a.jpg")
    answer = json.loads(done.stdout)
    assert len(answer["words"]) == len(answer["caption"].split())
    assert sum(map(sum, answer["words"][0]["alpha"])) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a.jpg",), 2, "Name a file for the drawing"),
        (("a.jpg", "--json", "-o", "-"), 2, "Name a file: -o overlay.png"),
        (("a.jpg", "-o", "x.png", "--word", "49"), 2, "word is 49, but the caption has"),
        (("bad.jpg", "-o", "x.png"), 1, "(unreadable-image)"),
        (("a.jpg", "-o", "none/x.png"), 1, "none/x.png cannot be written: No such file"),
    ],
)
def test_attention_that_cannot_be_drawn_says_why(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    done = invoke("attention", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not Path("x.png").exists()


# -- models ----


def test_models_lists_what_there_is_and_fails_where_one_is_damaged(tmp_path: Path) -> None:
    done = invoke("models", GLIMPSE_CAPTIONER="real")
    assert done.exit_code == 0, done.stderr
    head, *rows = (line.split("\t") for line in done.stdout.splitlines())
    assert head[0] == "model"
    assert "glimpse (default)" in [row[0] for row in rows]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    done = invoke(
        "models", "--json", GLIMPSE_CAPTIONER="real", GLIMPSE_WEIGHTS_FOLDER=str(tmp_path)
    )
    assert done.exit_code == 1
    (model,) = json.loads(done.stdout)["models"]
    assert (model["name"], model["default"], bool(model["problem"])) == ("broken", False, True)
    assert "broken" in done.stderr


def test_models_of_an_empty_folder_are_none(tmp_path: Path) -> None:
    done = invoke("models", GLIMPSE_CAPTIONER="real", GLIMPSE_WEIGHTS_FOLDER=str(tmp_path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"There are no models in {tmp_path}" in done.stderr


# -- bulk ----


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_bulk_writes_a_row_for_each_photo_and_counts_what_failed(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "captions.jsonl"
    done = invoke("bulk", folder, "--out", out)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert [row["file"] for row in rows(out)] == ["a.jpg", "bad.jpg", "more/c.jpg"]
    assert [row.get("problem") for row in rows(out)] == [None, "unreadable-image", None]
    bad, total = done.stderr.splitlines()
    assert bad.endswith("(unreadable-image)")
    assert "2 photos captioned" in total
    assert "1 failed" in total
    assert "1 other file passed over" in total


def test_bulk_run_again_captions_only_what_is_new(
    folder: Path, tmp_path: Path, image_file: bytes
) -> None:
    (folder / "bad.jpg").unlink()
    out = tmp_path / "captions.csv"
    assert invoke("bulk", folder, "--out", out, "--quiet").stderr == ""
    before = out.read_bytes()
    again = invoke("bulk", folder, "--out", out)
    assert again.exit_code == 0
    assert "0 photos captioned, 2 were done before" in again.stderr
    assert out.read_bytes() == before
    (folder / "b.jpg").write_bytes(image_file)
    assert invoke("bulk", folder, "--out", out).exit_code == 0
    added = out.read_bytes().removeprefix(before)
    assert added.startswith(b"b.jpg,")
    assert added.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "x.txt"), "Let it end in .jsonl, .csv or .parquet"),
        (("--out", "x.jsonl", "--keep-times"), "add --write-xmp"),
        (("--out", "none/x.jsonl"), "cannot be written: No such file"),
        (("--out", "begun.jsonl"), "begun.jsonl was begun with another model"),
        (("--out", "plain.jsonl", "--write-xmp"), "was begun without --write-xmp"),
        (("--out", "x.jsonl", "--num-captions", "9"), "num_captions is 9"),
        (("--out", "x.jsonl", "--ray", "local"), "Add --format parquet"),
        (("--out", "x.parquet", "--min-workers", "5"), "is more than --max-workers"),
    ],
)
def test_bulk_that_cannot_work_ends_with_2_and_writes_nothing(
    arguments: tuple[str, ...],
    said: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = FakeCaptioner(DEFAULT_MODEL).info.digest
    for name, by in (("plain.jsonl", digest), ("begun.jsonl", "0" * 64)):
        row = {"file": "a.jpg", "caption": "a dog", "digest": by}
        Path(name).write_text(json.dumps(row) + "\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().glob("*.jsonl")}
    done = invoke("bulk", folder, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert {path: path.read_bytes() for path in Path().glob("*.jsonl")} == before


def test_bulk_that_cannot_write_a_photo_says_so_each_time(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.jpg").unlink()
    with Image.open(folder / "a.jpg") as image:
        image.save(folder / "b.gif")
    command = ("bulk", folder, "--out", tmp_path / "captions.jsonl", "--write-xmp")
    done = invoke(*command)
    assert done.exit_code == 1
    assert "b.gif: Captions are written into JPEG, PNG and WebP files only" in done.stderr
    assert "1 files were not written" in done.stderr
    assert invoke(*command).exit_code == 1
    assert [row["xmp"] for row in rows(tmp_path / "captions.jsonl")][::2] == ["written"] * 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.jpg", "is no text file (UTF-8)"),
        ("none", "is not there"),
        ("more", "has no file that is named as a photo"),
    ],
)
def test_bulk_of_no_photos_says_so(name: str, said: str, folder: Path, tmp_path: Path) -> None:
    (folder / "more" / "c.jpg").unlink()
    done = invoke("bulk", folder / name, "--out", tmp_path / "x.jsonl")
    assert done.exit_code == 2
    assert said in done.stderr


def test_bulk_of_a_text_file_captions_what_it_names(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "listing.txt"
    names = [str(folder / "more" / "c.jpg"), str(folder / "a.jpg")]
    listing.write_text("\n".join(names), encoding="utf-8")
    out = tmp_path / "captions.jsonl"
    assert invoke("bulk", listing, "--out", out).exit_code == 0
    assert [row["file"] for row in rows(out)] == names
    assert all(row["caption"] for row in rows(out))


def test_bulk_of_a_store_captions_its_photos_and_writes_into_none(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "bad.jpg").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    out = tmp_path / "captions.jsonl"
    refused = invoke("bulk", folder.as_uri(), "--out", out, "--write-xmp")
    assert refused.exit_code == 2
    assert "an object in a store is none" in refused.stderr
    assert not out.exists()
    assert invoke("bulk", folder.as_uri(), "--out", out).exit_code == 0
    assert [row["file"] for row in rows(out)] == ["a.jpg", "more/c.jpg"]
    assert {path: path.read_bytes() for path in folder.rglob("*.jpg")} == before


# -- the page ----


def test_every_example_of_the_page_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository / "docs" / "commands.md").read_text(encoding="utf-8")
    photo = Path("docs", "images", "cat.jpg")
    monkeypatch.chdir(tmp_path)
    photo.parent.mkdir(parents=True)
    data = (repository / photo).read_bytes()
    photo.write_bytes(data)
    Path("README.md").write_text("no photo", encoding="utf-8")
    examples = re.findall(r"^glimpse (.*)$", page, re.MULTILINE)
    assert len(examples) == 8
    for example in examples:
        words = shlex.split(example.partition(" < ")[0])
        done = invoke(*words, data=data)
        assert done.exit_code == ("README.md" in words), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        *("README.md", "docs", "overlay.png", "cat.png", "captions.jsonl")
    }


# -- the shipped weights ----


def test_caption_is_what_the_service_answers(
    serve: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    photo = repository / "docs" / "images" / "cat.jpg"
    options = {"num_captions": 2, "beam_size": 3, "max_length": 12}
    with serve(captioner="real") as client:
        asked = client.post(
            "/caption", params=options, files={"image": ("cat.jpg", photo.read_bytes())}
        ).json()
        refused = client.post("/caption", files={"image": ("x.jpg", b"no picture")}).json()
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    first = invoke("caption", "--json", *words, photo, GLIMPSE_CAPTIONER="real")
    (told,) = (json.loads(line) for line in first.stdout.splitlines())
    assert told.pop("file") == str(photo)
    del told["timing"], asked["timing"]
    assert told == asked
    problem = json.loads(invoke("caption", "--json", bad).stdout)["problem"]
    assert problem == {name: refused[name] for name in problem}
    out = tmp_path / "out.jsonl"
    invoke("bulk", photo.parent, "--out", out, *words, GLIMPSE_CAPTIONER="real")
    (row,) = (row for row in rows(out) if row["file"] == "cat.jpg")
    assert row["caption"] == asked["caption"]
    assert row["digest"] == asked["model"]["digest"]
    assert [each["text"] for each in row["captions"]] == [
        each["text"] for each in asked["captions"]
    ]
    assert row["confidence"] == pytest.approx(asked["captions"][0]["confidence"], abs=0.02)
