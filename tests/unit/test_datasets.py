"""Every layout is read as published; what cannot be used is named, counted, and stops the reading
above a limit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from training.data.datasets import (
    CaptionedImage,
    DataError,
    DatasetConfig,
    ReadReport,
    read_dataset,
)

Make = Callable[..., None]


def read(**fields: Any) -> tuple[list[CaptionedImage], list[str]]:
    """Read with the problems as 'where: what' texts."""
    captioned, report = read_dataset(DatasetConfig.model_validate({"name": "made-up", **fields}))
    return captioned, [": ".join(problem) for problem in report.problems]


def keys(captioned: list[CaptionedImage]) -> list[str]:
    return [each.key for each in captioned]


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), "red").save(path)


def write_lines(path: Path, *lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    draw(*(tmp_path / "Flicker8k_Dataset" / f"{name}.jpg" for name in "abcd"))
    lines = [
        f"{name}.jpg#{number}\tA {name} number {number} ." for name in "abcd" for number in range(5)
    ]
    write_lines(tmp_path / "Flickr8k.token.txt", *lines, "lost.jpg.1#0\tNobody there .")
    write_lines(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg", "b.jpg")
    write_lines(tmp_path / "Flickr_8k.devImages.txt", "c.jpg")
    write_lines(tmp_path / "Flickr_8k.testImages.txt", "d.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "expected"), [("train", ["a.jpg", "b.jpg"]), ("dev", ["c.jpg"]), ("test", ["d.jpg"])]
)
def test_read_dataset_flickr8k_split_gives_its_images(
    flickr8k: Path, split: str, expected: list[str]
) -> None:
    captioned, problems = read(kind="flickr8k", root=flickr8k, split=split)
    assert keys(captioned) == expected
    assert problems == []
    assert all(len(each.captions) == 5 and each.path and each.path.is_file() for each in captioned)


def test_read_dataset_flickr8k_all_names_the_image_that_is_not_there(flickr8k: Path) -> None:
    captioned, problems = read(kind="flickr8k", root=flickr8k, split="all", max_problems=1)
    assert len(captioned) == 4
    assert [problem.split(":")[0] for problem in problems] == ["lost.jpg.1"]
    with pytest.raises(DataError, match=r"1 problem.*lost\.jpg\.1.*limit is 0"):
        read(kind="flickr8k", root=flickr8k, split="all")


def test_read_dataset_flickr8k_damaged_token_file_names_each_line(flickr8k: Path) -> None:
    with (flickr8k / "Flickr8k.token.txt").open("ab") as file:
        file.write(b"no tab here\na.jpg#x\tbad number\na.jpg#9\t\xff\xfe\na.jpg#5\t  \n\n")
    captioned, problems = read(kind="flickr8k", root=flickr8k, split="train", max_problems=9)
    assert [problem.split(":")[0] for problem in problems] == [
        *(f"Flickr8k.token.txt line {number}" for number in (22, 23, 24)),
        "a.jpg",
    ]
    assert len(captioned[0].captions) == 5


def test_read_dataset_flickr8k_name_without_captions_is_a_problem(flickr8k: Path) -> None:
    write_lines(flickr8k / "Flickr_8k.devImages.txt", "c.jpg", "unknown.jpg")
    captioned, problems = read(kind="flickr8k", root=flickr8k, split="dev", max_problems=1)
    assert keys(captioned) == ["c.jpg"]
    assert problems == ["unknown.jpg: has no captions"]


def karpathy_image(name: str, split: str, **more: object) -> dict[str, object]:
    return {
        "filename": name,
        "split": split,
        "sentences": [{"raw": f"A {name}."}, {"raw": "Two."}],
        **more,
    }


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("dev", 1), ("test", 1), ("all", 4)])
def test_read_dataset_karpathy_counts_restval_as_train(
    tmp_path: Path, split: str, count: int
) -> None:
    splits = ("train", "restval", "val", "test")
    images = [karpathy_image(f"{part}.jpg", part, filepath="val2014") for part in splits]
    write_lines(tmp_path / "dataset_coco.json", {"dataset": "coco", "images": images})
    draw(*(tmp_path / "val2014" / f"{part}.jpg" for part in splits))
    captioned, problems = read(kind="karpathy", root=tmp_path, split=split)
    assert len(captioned) == count
    assert problems == []
    assert captioned[0].captions[1] == "Two."


def test_read_dataset_karpathy_malformed_records_are_named(tmp_path: Path) -> None:
    images = [
        karpathy_image("a.jpg", "train"),
        karpathy_image("b.jpg", "holiday"),
        {"filename": "c.jpg"},
        7,
    ]
    write_lines(tmp_path / "dataset_flickr30k.json", {"images": images})
    draw(tmp_path / "flickr30k-images" / "a.jpg")
    captioned, problems = read(kind="karpathy", root=tmp_path, split="train", max_problems=3)
    assert keys(captioned) == ["a.jpg"]
    assert [problem.split(":")[0] for problem in problems] == [
        f"dataset_flickr30k.json images[{number}]" for number in (1, 2, 3)
    ]


def coco(path: Path, names: list[str]) -> None:
    write_lines(
        path,
        {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [
                {"image_id": n, "caption": f"CaptionedImage {n}, {i}."}
                for n in range(len(names))
                for i in (1, 2)
            ],
        },
    )


@pytest.mark.parametrize(("split", "expected"), [("train", "t.jpg"), ("dev", "v.jpg")])
def test_read_dataset_coco_chooses_the_file_of_the_split(
    tmp_path: Path, split: str, expected: str
) -> None:
    coco(tmp_path / "annotations" / "captions_train2014.json", ["t.jpg"])
    coco(tmp_path / "annotations" / "captions_val2014.json", ["v.jpg"])
    draw(tmp_path / "train2014" / "t.jpg", tmp_path / "val2014" / "v.jpg")
    captioned, problems = read(kind="coco", root=tmp_path, split=split)
    assert keys(captioned) == [expected]
    assert problems == []
    assert len(captioned[0].captions) == 2


def test_read_dataset_coco_without_splits_refuses_a_split(tmp_path: Path) -> None:
    coco(tmp_path / "captions.json", ["a.jpg"])
    draw(tmp_path / "images" / "a.jpg")
    assert len(read(kind="coco", root=tmp_path, split="all")[0]) == 1
    with pytest.raises(DataError, match=r"does not say that it is the dev split"):
        read(kind="coco", root=tmp_path, split="dev")


def test_read_dataset_coco_strange_records_are_named(tmp_path: Path) -> None:
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg"},
            {"id": [2], "file_name": "b.jpg"},
            {"id": 3, "file_name": "c.jpg"},
        ],
        "annotations": [
            {"image_id": 1, "caption": "A."},
            {"image_id": 9, "caption": "B."},
            {"image_id": 1},
        ],
    }
    write_lines(tmp_path / "captions.json", content)
    draw(tmp_path / "images" / "a.jpg", tmp_path / "images" / "c.jpg")
    captioned, problems = read(kind="coco", root=tmp_path, split="all", max_problems=4)
    assert captioned == [CaptionedImage("a.jpg", tmp_path / "images" / "a.jpg", ("A.",))]
    assert [problem.split(":")[0] for problem in problems] == [
        "captions.json images[1]",
        "captions.json annotations[1]",
        "a.jpg",
        "c.jpg",
    ]


def test_read_dataset_jsonl_adds_up_lines_and_ignores_other_fields(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "captions.jsonl",
        {"file": "images/a.png", "captions": ["One  cat.\n"], "category": "cat"},
        {"image": "b.png", "captions": ["A dog."]},
        "",
        {"file": "images/a.png", "captions": ["The cat."]},
    )
    draw(tmp_path / "images" / "a.png", tmp_path / "b.png")
    captioned, problems = read(kind="jsonl", root=tmp_path, split="all")
    assert [(each.key, each.captions) for each in captioned] == [
        ("images/a.png", ("One cat.", "The cat.")),
        ("b.png", ("A dog.",)),
    ]
    assert problems == []


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "7",
        "null",
        '{"file": 5, "captions": ["A."]}',
        '{"file": "a.png", "captions": "A."}',
        "{}",
        "[" * 9999,
    ],
)
def test_read_dataset_jsonl_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    write_lines(tmp_path / "captions.jsonl", {"file": "a.png", "captions": ["A cat."]}, line)
    draw(tmp_path / "a.png")
    captioned, problems = read(kind="jsonl", root=tmp_path, split="all", max_problems=1)
    assert keys(captioned) == ["a.png"]
    assert [problem.split(":")[0] for problem in problems] == ["captions.jsonl line 2"]


@pytest.mark.parametrize(
    ("sentences", "expected"), [(1, ("Short.",)), (2, ("Short.", "First one."))]
)
@pytest.mark.parametrize("description", [["First one.", "Then two."], "First one. Then two."])
def test_read_dataset_jsonl_description_fills_up_captions(
    tmp_path: Path, sentences: int, expected: tuple[str, ...], description: object
) -> None:
    write_lines(
        tmp_path / "captions.jsonl",
        {"file": "a.png", "captions": ["Short."], "description": description},
    )
    draw(tmp_path / "a.png")
    captioned, _ = read(kind="jsonl", root=tmp_path, split="all", description_sentences=sentences)
    assert captioned[0].captions == expected


def test_read_dataset_captions_kind_needs_no_images(tmp_path: Path) -> None:
    write_lines(tmp_path / "words.jsonl", {"photo": "a.jpg", "captions": ["A cat.", "Cat"]})
    captioned, problems = read(kind="captions", root=tmp_path, split="all", captions="words.jsonl")
    assert captioned == [CaptionedImage("a.jpg", None, ("A cat.", "Cat"))]
    assert problems == []


def test_read_dataset_key_files_set_images_aside(tmp_path: Path) -> None:
    coco(tmp_path / "captions.json", ["a.jpg", "b.jpg", "c.jpg"])
    draw(*(tmp_path / "images" / f"{name}.jpg" for name in "abc"))
    chosen = tmp_path / "dev.txt"
    write_lines(chosen, "# every third photo", "b.jpg")
    dev, _ = read(kind="coco", root=tmp_path, split="dev", include_keys_file=chosen)
    train, _ = read(kind="coco", root=tmp_path, split="train", exclude_keys_file=chosen)
    assert keys(dev) == ["b.jpg"]
    assert keys(train) == ["a.jpg", "c.jpg"]


def test_read_dataset_included_key_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    coco(tmp_path / "captions.json", ["a.jpg"])
    draw(tmp_path / "images" / "a.jpg")
    write_lines(tmp_path / "dev.txt", "a.jpg", "typo.jpg")
    with pytest.raises(DataError, match=r"typo\.jpg"):
        read(kind="coco", root=tmp_path, split="dev", include_keys_file=tmp_path / "dev.txt")


def test_read_dataset_verify_images_finds_the_damaged_one(tmp_path: Path) -> None:
    draw(tmp_path / "good.jpg", tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    lines = [{"file": f"{name}.jpg", "captions": ["A."]} for name in ("good", "cut", "text")]
    write_lines(tmp_path / "captions.jsonl", *lines)
    fields = {"kind": "jsonl", "root": tmp_path, "split": "all", "max_problems": 2}
    assert len(read(**fields)[0]) == 3
    captioned, problems = read(**fields, verify_images=True)
    assert keys(captioned) == ["good.jpg"]
    assert [problem.split(":")[0] for problem in problems] == ["cut.jpg", "text.jpg"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("flickr8k", "Flickr8k.token.txt"),
        ("karpathy", "dataset_"),
        ("coco", "captions"),
        ("jsonl", ".jsonl"),
        ("captions", ".jsonl"),
    ],
)
def test_read_dataset_missing_folder_or_files_says_what_was_expected(
    tmp_path: Path, kind: str, expected: str
) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError) as caught:
            read(kind=kind, root=root, split="train")
        assert str(root) in str(caught.value)
        assert expected in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": 3}', '{"images": []}'])
def test_read_dataset_coco_file_without_lists_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "captions.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"captions\.json"):
        read(kind="coco", root=tmp_path, split="all")


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": 0.0},
        {"max_problems": -1},
        {"kind": "imagenet"},
        {"split": "val"},
        {"color": 1},
        {"name": ""},
    ],
)
def test_dataset_config_out_of_bounds_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DatasetConfig.model_validate(
            {"name": "x", "kind": "coco", "root": ".", "split": "all", **fields}
        )


def test_read_report_over_limit_names_the_first_few_and_the_count() -> None:
    report = ReadReport("photos")
    for number in range(12):
        report.add(f"{number}.jpg", "is damaged")
    report.raise_if_over(12)
    with pytest.raises(
        DataError, match=r"'photos': 12 problem.*0\.jpg: is damaged.*and 7 more"
    ) as caught:
        report.raise_if_over(11)
    assert "9.jpg" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "fields", "images", "captions", "problems"),
    [
        ("flickr8k", {"kind": "flickr8k", "split": "train"}, 5997, 29985, 0),
        ("flickr8k", {"kind": "flickr8k", "split": "dev"}, 1000, 5000, 0),
        ("flickr8k", {"kind": "flickr8k", "split": "test"}, 1000, 5000, 0),
        ("flickr8k", {"kind": "flickr8k", "split": "all"}, 8091, 40455, 1),
        ("coco-sample", {"kind": "coco"}, 4594, 18915, 0),
        ("pascal-sentences", {"kind": "jsonl"}, 1000, 4888, 0),
        ("flickr30k-sample", {"kind": "jsonl"}, 206, 1030, 0),
        ("ade-scenes", {"kind": "jsonl", "description_sentences": 1}, 518, 559, 0),
        ("ade-scenes", {"kind": "jsonl"}, 41, 82, 477),
        ("boxes", {"kind": "coco"}, 142, 710, 128),
        ("captions-only", {"kind": "captions", "captions": "coco.jsonl"}, 58877, 240496, 0),
        ("captions-only", {"kind": "captions", "captions": "flickr30k.jsonl"}, 29151, 145755, 0),
    ],
)
def test_read_dataset_real_sets_give_their_published_counts(
    shared_data: Path,
    folder: str,
    fields: dict[str, Any],
    images: int,
    captions: int,
    problems: int,
) -> None:
    found, named = read(
        root=shared_data / folder, **{"split": "all", "max_problems": problems, **fields}
    )
    assert len(found) == images
    assert sum(len(each.captions) for each in found) == captions
    assert len(named) == problems
