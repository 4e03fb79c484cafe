"""Which photos a folder has, and reading one."""

import os
from pathlib import Path

import pytest

from app.bulk.reader import find_photos, read_photo
from app.core.errors import PhotoFileError


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folder_is_listed_by_name_with_those_inside_it(tmp_path: Path) -> None:
    put(tmp_path, "b.JPG", "a.jpeg", "z/c.png", "m/deep/d.webp", "notes.txt", ".hidden.jpg")
    put(tmp_path, ".trash/e.jpg", "._a.jpeg")
    listing = find_photos(tmp_path)
    assert [photo.name for photo in listing.photos] == [
        "a.jpeg",
        "b.JPG",
        "m/deep/d.webp",
        "z/c.png",
    ]
    assert listing.passed_over == 1
    assert all(photo.place == tmp_path / photo.name for photo in listing.photos)


def test_names_that_are_no_text_are_written_so_that_every_format_holds_them(
    tmp_path: Path,
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    path.write_bytes(b"x")
    (photo,) = find_photos(tmp_path).photos
    assert photo.name == "caf\\xe9.jpg"
    assert photo.place == path
    assert read_photo(photo.place, 10) == b"x"


def test_links_to_files_are_photos_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg")
    (tmp_path / "photos" / "b.jpg").symlink_to(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    assert [photo.name for photo in find_photos(tmp_path / "photos").photos] == ["a.jpg", "b.jpg"]


def test_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(PhotoFileError, match="cannot be read: No such file or directory"):
        find_photos(tmp_path / "none")


def test_file_larger_than_accepted_is_refused_with_its_size(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").write_bytes(bytes(101))
    assert len(read_photo(tmp_path / "a.jpg", 101)) == 101
    with pytest.raises(PhotoFileError, match=r"has 101 bytes; at most 100 are accepted"):
        read_photo(tmp_path / "a.jpg", 100)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(PhotoFileError, match="It is no file"):
            read_photo(path, 100)
    with pytest.raises(PhotoFileError, match="Is a directory"):
        read_photo(tmp_path, 100)
    with pytest.raises(PhotoFileError, match="No such file"):
        read_photo(tmp_path / "gone.jpg", 100)
