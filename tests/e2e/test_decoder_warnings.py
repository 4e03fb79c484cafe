"""What image libraries warn of, in the log of the real service: one JSON line, once."""

import json
import struct
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.server import serving

pytestmark = pytest.mark.e2e

ASCII, FAR_AWAY = 2, 0x7FFFFFFF


def tiff_of_broken_tags(count: int) -> bytes:
    """A TIFF of this many tags whose values lie outside the file; Pillow warns of each."""
    file = BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(file, "TIFF")
    data = file.getvalue()
    (start,) = struct.unpack_from("<L", data, 4)
    (tags,) = struct.unpack_from("<H", data, start)
    end = start + 2 + 12 * tags
    broken = b"".join(
        struct.pack("<HHLL", 40_000 + number, ASCII, 1_000 + number, FAR_AWAY)
        for number in range(count)
    )
    directory = struct.pack("<H", tags + count) + data[start + 2 : end] + broken + bytes(4)
    return data[:4] + struct.pack("<L", len(data)) + data[8:] + directory


def damaged_tiff() -> bytes:
    """A TIFF whose compressed data is damaged; libtiff says so, over and over."""
    file = BytesIO()
    Image.effect_noise((200, 100), 60).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    data[2_000:6_000] = b"\xff" * 4_000
    return bytes(data)


def test_warnings_of_a_decoder_are_one_line_of_json_however_many_there_are(
    tmp_path: Path, repository: Path
) -> None:
    sent = tiff_of_broken_tags(900)
    with serving(tmp_path, repository, log_format="json") as server:
        answers = [server.caption(sent) for _ in range(3)]
        damaged = [server.caption(data)[0] for data in [damaged_tiff()] * 2]
        lines = server.log.read_text().splitlines()
    assert [status for status, _ in answers] == [200, 200, 200]
    assert damaged == [422, 422]
    records = [json.loads(line) for line in lines]  # nothing else is on standard error
    warned = [each["message"] for each in records if each["logger"] == "py.warnings"]
    assert len(warned) == 1
    assert "UserWarning: Truncated File Read" in warned[0]
    assert "\n" not in warned[0]
