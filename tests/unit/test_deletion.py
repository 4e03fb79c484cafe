"""The deletion test: which words and cells, which pixels turn gray, and drops that equal a plain
recomputation."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.captioning import image_paths
from evaluation.measures.deletion import (
    SHARE_OF_CELLS,
    Deletion,
    LogprobDrop,
    content_positions,
    gray_out,
    highest_cells,
    measure_deletion,
)
from models.array_features import Features
from models.bundles.checkpoint import load_checkpoint
from models.captioner import NetworkCaptioner
from models.decoders.base import CaptionDecoder
from models.decoding import decode
from models.geometry import Box, CellGrid
from models.loading import build_captioner
from models.runtime.torch import TorchSteps
from models.tokenizer import Vocabulary
from tests.unit.toys import save_tiny_bundle
from training.data.batching import seeded
from training.data.datasets import CaptionedImage
from training.data.images import ImageReader
from training.data.layouts import DataError

GRAY = (127.5, 127.5, 127.5)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., NetworkCaptioner]:
    def build_tiny(**fields: object) -> NetworkCaptioner:
        folder = save_tiny_bundle(tmp_path_factory.mktemp("weights") / "tiny", **fields)
        return build_captioner(load_checkpoint(folder), precision="float32")

    return build_tiny


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedImage]:
    folder = tmp_path_factory.mktemp("photos")
    drawn = []
    for number in range(4):
        noise = torch.randint(256, (56, 56, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / f"{number}.png")
        drawn.append(CaptionedImage(f"{number}.png", folder / f"{number}.png", ()))
    return drawn


def test_content_positions_leave_out_what_carries_no_content() -> None:
    words = ["two", "men", "in", "red", "shirts", "are", "standing", "next", "to", "a", "dog"]
    assert [words[position] for position in content_positions(words)] == [
        "men",
        "red",
        "shirts",
        "standing",
        "dog",
    ]


def test_highest_cells_are_the_highest_whatever_the_seed() -> None:
    alpha = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    for seed in range(5):
        assert highest_cells(alpha, 3, seeded(seed)).tolist() == [1, 3, 4]


def test_highest_cells_of_an_even_map_are_random_and_of_a_one_hot_map_but_one() -> None:
    even = {
        tuple(highest_cells(torch.full((100,), 0.01), 10, seeded(seed)).tolist())
        for seed in range(20)
    }
    assert len(even) == 20
    one_hot = torch.zeros(100).index_fill(0, torch.tensor([42]), 1.0)
    chosen = [highest_cells(one_hot, 10, seeded(seed)).tolist() for seed in range(20)]
    assert {cells[0] for cells in chosen} == {42}
    assert len({tuple(cells[1:]) for cells in chosen}) == 20
    assert all(len(set(cells)) == 10 for cells in chosen)


def test_gray_out_cell_of_an_offset_grid_is_a_square_as_wide_as_the_stride() -> None:
    side, first = 16 / 251, 13.5 / 251
    grid = CellGrid(14, 14, Box(first, first, first + 14 * side, first + 14 * side))
    pixels = torch.zeros(3, 251, 251, dtype=torch.uint8)
    changed = gray_out(pixels, torch.tensor([14 + 2]), grid, GRAY)
    expected = pixels.clone()
    expected[:, 29:45, 45:61] = 128  # row 1, column 2: from 13.5 + 16 and 13.5 + 32 pixels on
    assert torch.equal(changed, expected)
    everything = gray_out(pixels, torch.arange(196), grid, GRAY)
    assert int((everything == 128).all(dim=0).sum()) == 224**2


@given(cells=st.sets(st.integers(0, 195), max_size=40))
def test_gray_out_touches_nothing_but_the_cells(cells: set[int]) -> None:
    pixels = torch.randint(256, (3, 56, 56), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    changed = gray_out(
        pixels, torch.tensor(sorted(cells), dtype=torch.long), CellGrid(14, 14), (10.0, 20.0, 30.0)
    )
    for cell in range(196):
        rows, columns = (
            slice(4 * (cell // 14), 4 * (cell // 14) + 4),
            slice(4 * (cell % 14), 4 * (cell % 14) + 4),
        )
        if cell in cells:
            assert (changed[:, rows, columns] == torch.tensor([10, 20, 30]).view(3, 1, 1)).all()
        else:
            assert torch.equal(changed[:, rows, columns], pixels[:, rows, columns])


def logprob_of(
    decoder: CaptionDecoder, features: Features, token_ids: tuple[int, ...], position: int
) -> float:
    """The word's log-probability on one image, the caption read step by step."""
    state = decoder.init_state(features.annotations)
    for word in (Vocabulary.bos_id, *token_ids[:position]):
        output = decoder.step(torch.tensor([word]), state)
        state = output.state
    return float(output.logits.log_softmax(dim=-1)[0, token_ids[position]])


@torch.no_grad()
def test_measure_deletion_falls_equal_a_plain_recomputation(
    images: list[CaptionedImage], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(save_tiny_bundle(tmp_path / "tiny"))
    network = checkpoint.model
    decoder = network.decoder
    captioner = build_captioner(checkpoint, precision="float32")
    measured = measure_deletion(captioner, images, every=1)
    count = round(SHARE_OF_CELLS * 196)
    assert (measured.images, measured.cells, measured.locations) == (4, count, 196)
    assert len({(drop.image, drop.word, drop.logprob) for drop in measured.drops}) > 4
    for drop in measured.drops:
        pixels = ImageReader(captioner.info.config.preprocess, 0)(
            image_paths(images[drop.image :][:1])
        )[0]
        features = captioner.encode_pixels(pixels.unsqueeze(0))
        (result,) = decode(TorchSteps(decoder), features, checkpoint.config.decoding)
        caption = result.captions[0]
        words = checkpoint.vocabulary.decode(caption.token_ids)
        before = [
            logprob_of(decoder, features, caption.token_ids, position)
            for position in range(len(words))
        ]
        (position,) = (
            place for place, each in enumerate(before) if abs(each - drop.logprob) < 1e-5
        )
        cells = torch.from_numpy(caption.alphas[position]).argsort(descending=True)[:count]
        grayed = gray_out(pixels, cells, captioner.grid, GRAY)
        deleted = captioner.encode_pixels(grayed.unsqueeze(0))
        after = logprob_of(decoder, deleted, caption.token_ids, position)
        assert words[position] == drop.word
        assert drop.highest == pytest.approx(before[position] - after, abs=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"decoder": "nic"},
        {"attention": "hard"},
        {"decoder": "transformer", "layers": 1, "heads": 2},
    ],
)
def test_measure_deletion_any_decoder_is_measured_and_twice_the_same(
    fields: dict[str, object], build: Callable[..., NetworkCaptioner], images: list[CaptionedImage]
) -> None:
    captioner = build(**fields)
    done: list[int] = []
    measured = measure_deletion(captioner, images, every=2, advance=done.append)
    assert measured == measure_deletion(captioner, images, every=2)
    assert (measured.images, measured.every, sum(done)) == (2, 2, 2)
    assert {drop.image for drop in measured.drops} <= {0, 1}
    assert all(
        len([drop for drop in measured.drops if drop.image == image]) <= 3 for image in (0, 1)
    )


def test_deletion_scores_are_means_over_words() -> None:
    drops = (
        LogprobDrop(0, "dog", -1.0, 2.0, 1.0, 0.5),
        LogprobDrop(0, "grass", -1.0, 1.0, 0.0, 0.5),
        LogprobDrop(2, "cat", -1.0, 3.0, 0.5, 0.5),
    )
    measured = Deletion(3, 20, 196, drops)
    assert measured.score("highest").value == pytest.approx(2.0)
    assert measured.score("random").value == pytest.approx(0.5)
    assert measured.excess("random").value == pytest.approx(1.5)
    assert measured.excess("center").value == pytest.approx(1.5)
    described = json.loads(measured.describe("drawn").model_dump_json())
    assert described["highest_over_random"]["value"] == pytest.approx(4.0)
    assert (described["photos"], described["words"], described["cells"]) == (3, 3, 20)
    assert (described["every"], described["words_a_photo"]) == (1, 3)


def test_measure_deletion_without_an_image_is_a_data_error(
    build: Callable[..., NetworkCaptioner],
) -> None:
    with pytest.raises(DataError, match="x has captions and no picture"):
        measure_deletion(build(), [CaptionedImage("x", None, ("a cat",))])


def test_measure_deletion_damaged_image_is_a_data_error(
    build: Callable[..., NetworkCaptioner], tmp_path: Path
) -> None:
    path = tmp_path / "damaged.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"damaged\.jpg"):
        measure_deletion(build(), [CaptionedImage("damaged.jpg", path, ())])
