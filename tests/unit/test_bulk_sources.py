"""Photos that a text file names, and photos of an object store: a real one on this machine, spoken
to as S3."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem

from app.bulk import store
from app.bulk.mapper import Outcome
from app.bulk.reader import Photo, StoredObject
from app.bulk.shards import Shard
from app.bulk.sources import list_photos, read_place
from app.core.errors import PhotoFileError, StoreUnreachableError

FEW = 100


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    """An S3 server whom anybody may ask."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        yield server
    server.stop()


def address(server: ThreadedMotoServer, place: str, **more: str) -> str:
    host, port = server.get_host_and_port()
    query = {"scheme": "http", "endpoint_override": f"{host}:{port}", "region": "us-east-1", **more}
    return f"s3://{place}?{'&'.join(f'{name}={value}' for name, value in query.items())}"


@pytest.fixture(scope="module")
def bucket(server: ThreadedMotoServer) -> str:
    """A bucket with a few objects; gives its name."""
    files, _ = FileSystem.from_uri(
        address(server, "holiday", allow_bucket_creation="true", allow_delayed_open="false")
    )
    files.create_dir("holiday")
    for name in ("b.JPG", "a.jpeg", "z/c.png", "z/d e.webp", "notes.txt", ".trash/e.jpg"):
        with files.open_output_stream(f"holiday/photos/{name}") as stream:
            stream.write(name.encode())
    return "holiday"


def test_store_is_listed_by_name_and_its_photos_are_read(
    server: ThreadedMotoServer, bucket: str
) -> None:
    listing = list_photos(address(server, f"{bucket}/photos"))
    names = [photo.name for photo in listing.photos]
    assert names == ["a.jpeg", "b.JPG", "z/c.png", "z/d e.webp"]
    assert listing.passed_over == 1
    assert [read_place(photo.place, FEW).decode() for photo in listing.photos] == names


def test_object_larger_than_accepted_is_refused(server: ThreadedMotoServer, bucket: str) -> None:
    place = list_photos(address(server, f"{bucket}/photos")).photos[0].place
    assert len(read_place(place, len("a.jpeg"))) == len("a.jpeg")
    with pytest.raises(PhotoFileError, match="has more than 5 bytes; at most 5 are accepted"):
        read_place(place, 5)


def test_object_that_is_gone_is_at_fault_and_a_store_that_is_gone_is_tried_again(
    server: ThreadedMotoServer, bucket: str
) -> None:
    with pytest.raises(PhotoFileError, match="no such object"):
        read_place(StoredObject(address(server, bucket), f"{bucket}/photos/x.jpg"), FEW)
    nobody = f"s3://{bucket}?scheme=http&endpoint_override=127.0.0.1:1&region=us-east-1"
    with pytest.raises(StoreUnreachableError, match="The store did not give it") as raised:
        read_place(StoredObject(nobody, f"{bucket}/photos/a.jpeg"), FEW)
    assert not Outcome(Photo("a.jpeg", Path("a.jpeg")), error=raised.value).is_final


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://no-such-bucket/photos", "cannot be listed"),
        ("carrier-pigeon://photos", "is no store to reach"),
        ("none", "none is not there. Name a folder of photos, a text file"),
    ],
)
def test_source_that_is_none_is_told_in_a_sentence(
    source: str, said: str, server: ThreadedMotoServer
) -> None:
    if source.startswith("s3://"):
        source = address(server, source.removeprefix("s3://"))
    with pytest.raises(PhotoFileError, match=said):
        list_photos(source)


def test_text_file_names_photos_from_its_own_folder_in_its_order(
    tmp_path: Path, server: ThreadedMotoServer, bucket: str
) -> None:
    elsewhere = tmp_path / "elsewhere" / "x.jpg"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"b")  # named by hand, whatever it is called
    stored = address(server, f"{bucket}/photos/z/c.png")
    names = ["b", str(elsewhere), stored, "gone\u2028or\x0bnot.jpg"]  # which end no line
    listing = tmp_path / "listing.txt"
    listing.write_text("\ufeff" + "\r\n".join([*names, "", "b", ""]), encoding="utf-8")

    photos = list_photos(str(listing)).photos

    assert [photo.name for photo in photos] == names
    assert [read_place(photo.place, FEW) for photo in photos[:3]] == [b"b", b"x", b"z/c.png"]
    with pytest.raises(PhotoFileError, match="No such file"):
        read_place(photos[3].place, FEW)
    shard = Shard("part-ray-0.parquet", tuple(photos))
    assert Shard.from_json(shard.to_json()) == shard


def test_file_that_is_no_text_is_no_list_of_photos(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(50))
    with pytest.raises(PhotoFileError, match=r"is no text file .* glimpse caption"):
        list_photos(str(path))


@pytest.mark.parametrize("source", ["s3://bucket/photos", "listing.txt"])
def test_store_without_pyarrow_says_what_to_install(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    store._open.cache_clear()
    if source == "listing.txt":
        (tmp_path / source).write_text("s3://bucket/a.jpg", encoding="utf-8")
        source = str(tmp_path / source)
    with pytest.raises(PhotoFileError, match="needs the package pyarrow"):
        list_photos(source)
