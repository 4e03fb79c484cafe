"""The readers of image files' bytes: parts of a file read as one, and the orientation in EXIF."""

import io

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.image_files.exif import exif_orientation
from models.image_files.pieces import open_pieces

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)
READS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 50)),
        st.tuples(st.sampled_from(["from the beginning", "from here"]), st.integers(0, 60)),
    ),
    max_size=12,
)


@given(data=st.binary(max_size=40), spans=SPANS, end=st.binary(max_size=5), calls=READS)
def test_open_pieces_reads_like_one_file(
    data: bytes, spans: list[tuple[int, int]], end: bytes, calls: list[tuple[str, int]]
) -> None:
    pieces = open_pieces(data, [*spans, end])
    whole = io.BytesIO(b"".join(data[start:stop] for start, stop in spans) + end)
    for name, number in calls:
        if name == "read":
            assert pieces.read(number) == whole.read(number)
        else:
            whence = 0 if name == "from the beginning" else 1
            assert pieces.seek(number, whence) == whole.seek(number, whence)
        assert pieces.tell() == whole.tell()


@given(orientation=st.integers(1, 8), others=st.integers(0, 5), with_name=st.booleans())
def test_exif_orientation_is_found_among_other_tags(
    orientation: int, others: int, with_name: bool
) -> None:
    exif = Image.Exif()
    for number in range(others):
        exif[0x0100 + number] = number
    exif[0x0112] = orientation
    block = exif.tobytes()
    assert exif_orientation(block if with_name else block.removeprefix(b"Exif\0\0")) == orientation


@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0", b"MM\0*", b"Exif\0\0MM\0*"]))
def test_exif_orientation_of_anything_is_one_to_eight(data: bytes, start: bytes) -> None:
    assert exif_orientation(start + data) in range(1, 9)
