"""What random and guided changes of files have found, each held as it was mended."""

import pytest

from models.errors import ImageError
from models.image_files.gif import read_gif
from models.image_files.pieces import open_pieces
from models.preprocessing import decode_image
from tests.corpus.animations import gif_of_zeros
from tests.corpus.mutations import mutations
from tests.unit.image_files import FILES


def test_read_gif_hands_on_nothing_behind_what_is_no_block() -> None:
    data = gif_of_zeros()
    assert len(open_pieces(data, read_gif(data)).read()) < 1_000
    whole = FILES["GIF"]
    assert len(open_pieces(whole, read_gif(whole)).read()) == len(whole)


def test_damaged_tiff_writes_nothing_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    refused = 0
    for name, data in mutations(3_000, seed=5):
        if name.startswith("TIFF"):
            try:
                decode_image(data)
            except ImageError:
                refused += 1
    assert refused > 100
    assert capfd.readouterr().err == ""
