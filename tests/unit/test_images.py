"""Images for training: the same pixels as the server's, damaged ones named and counted, annotations
computed once."""

import logging
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models.bundles.checkpoint import Checkpoint
from models.captioner import NetworkCaptioner
from models.config import ModelConfig
from models.decoders.config import AttentionConfig
from models.encoders import default_preprocess
from models.features import ImageFeatures
from models.loading import build_captioner
from models.network import build_model
from models.preprocessing import DecodeLimits
from models.runtime.torch import fingerprint
from models.tokenizer import Vocabulary
from training.data.annotation_cache import AnnotationCache
from training.data.datasets import DataError
from training.data.images import ImageReader, prefetched

PREPROCESS = default_preprocess("tiny", 56)


def image(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    """A smooth image of colors that differs along both axes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def draw(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        image(seed=number).save(path)
    return paths


def files_of_every_kind(folder: Path) -> list[Path]:
    """A large and a rotated JPEG, a transparent and a palette PNG, a gray one and a GIF."""
    folder.mkdir(exist_ok=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent = image().convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    image(1200, 900).save(folder / "large.jpg", quality=90)
    image().save(folder / "turned.jpg", exif=turned)
    transparent.save(folder / "transparent.png")
    image().quantize(16).save(folder / "palette.png")
    image().convert("L").save(folder / "gray.png")
    image().save(folder / "still.gif")
    return sorted(folder.iterdir())


def captioner() -> NetworkCaptioner:
    vocabulary = Vocabulary(["a", "cat"])
    config = ModelConfig(
        name="tiny",
        encoder="tiny",
        decoder=AttentionConfig(embed_dim=8, decoder_dim=8, attention_dim=8),
        vocab_size=len(vocabulary),
        preprocess=PREPROCESS,
    )
    return build_captioner(Checkpoint(build_model(config).eval(), config, vocabulary, {}, "0" * 64))


def test_image_reader_pixels_equal_the_server_s_bit_for_bit(tmp_path: Path) -> None:
    paths = files_of_every_kind(tmp_path)
    pixels = ImageReader(PREPROCESS, 0)(paths)
    server = captioner()
    assert (pixels.shape, pixels.dtype) == ((len(paths), 3, 56, 56), torch.uint8)
    for path, mine in zip(paths, pixels, strict=True):
        np.testing.assert_array_equal(
            mine.numpy(), server.prepare(path.read_bytes(), DecodeLimits()).pixels
        )


def test_image_reader_real_images_equal_the_server_s_bit_for_bit(shared_data: Path) -> None:
    paths = sorted((shared_data / "coco-sample" / "images").glob("*.jpg"))[:12]
    server = captioner()
    pixels = ImageReader(PREPROCESS, 0)(paths)
    assert len(paths) == 12
    for path, mine in zip(paths, pixels, strict=True):
        np.testing.assert_array_equal(
            mine.numpy(), server.prepare(path.read_bytes(), DecodeLimits()).pixels
        )


def damage(folder: Path, count: int) -> list[Path]:
    """Files that are no images: cut short, text, empty, missing, ..."""
    whole = BytesIO()
    image().save(whole, format="JPEG")
    contents = [whole.getvalue()[:300], b"no picture", b"", None]
    paths = [folder / f"damaged-{number}.jpg" for number in range(count)]
    for path, content in zip(paths, contents, strict=False):
        if content is not None:
            path.write_bytes(content)
    return paths


def test_image_reader_damaged_images_are_gray_named_and_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (good,), damaged = draw(tmp_path, 1), damage(tmp_path, 4)
    reader = ImageReader(PREPROCESS, max_unreadable=4)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # an epoch after another
            pixels = reader([damaged[0], good, *damaged[1:]])
    assert pixels[1].float().std() > 1
    assert all(pixels[index].unique().numel() == 1 for index in (0, 2, 3, 4))
    assert reader.unreadable == set(damaged)
    assert [problem.where for problem in reader.report.problems] == [str(path) for path in damaged]
    for path in damaged:
        assert sum(str(path) in record.getMessage() for record in caplog.records) == 1


def test_image_reader_above_the_limit_stops_and_names_them(tmp_path: Path) -> None:
    damaged = damage(tmp_path, 3)
    reader = ImageReader(PREPROCESS, max_unreadable=2)
    reader(damaged[:2])
    with pytest.raises(DataError, match=r"damaged-2\.jpg.*max_unreadable = 3"):
        reader([damaged[2]])


def test_image_reader_without_a_limit_stops_at_the_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"damaged-0\.jpg"):
        ImageReader(PREPROCESS, 0)(damage(tmp_path, 1))


def test_prefetched_gives_every_result_in_order_from_another_thread() -> None:
    threads: set[int] = set()

    def square(number: int) -> int:
        threads.add(threading.get_ident())
        return number * number

    assert list(prefetched(square, range(20))) == [number * number for number in range(20)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(prefetched(square, [])) == []
    assert list(prefetched(square, [3], ahead=5)) == [9]


def test_prefetched_runs_no_further_ahead_than_asked() -> None:
    started: list[int] = []

    def note(number: int) -> int:
        started.append(number)
        return number

    results = prefetched(note, range(10), ahead=2)
    for taken in range(3):
        assert next(results) == taken
    results.close()
    assert max(started) <= 2 + 2


def test_prefetched_error_arrives_in_its_place() -> None:
    def refuse_three(number: int) -> int:
        if number == 3:
            raise DataError("three")
        return number

    results = prefetched(refuse_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="three"):
        next(results)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_fingerprint_tells_weights_apart_and_nothing_else() -> None:
    first, same, other = network(0), network(0), network(1)
    assert (
        fingerprint(first) == fingerprint(same.eval().requires_grad_(False)) != fingerprint(other)
    )
    assert fingerprint(first) == fingerprint(first.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    with torch.no_grad():
        same.get_parameter("0.bias")[0] += 1e-6
    assert fingerprint(first) != fingerprint(same)


def test_fingerprint_negative_zero_is_zero() -> None:
    """Averaging weights loses the sign of a zero, and the annotations do not depend on it."""
    one, other = network(), network()
    with torch.no_grad():
        one.get_parameter("0.bias").zero_()
        other.get_parameter("0.bias").fill_(-0.0)
    assert fingerprint(one) == fingerprint(other)


class Encoder:
    """Annotations (B, 4, 2) that depend on the image alone; counts what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[Path] = []

    def __call__(self, paths: Sequence[Path]) -> ImageFeatures:
        self.seen += paths
        return ImageFeatures(self.annotations(paths))

    def annotations(self, paths: Sequence[Path]) -> Tensor:
        return torch.stack([torch.arange(8.0).view(4, 2) / 3 + int(path.stem) for path in paths])


def cache(folder: Path, paths: Sequence[Path], weights: str = "weights") -> AnnotationCache:
    return AnnotationCache(folder / "cache", paths, weights, (4, 2))


def test_annotation_cache_reading_equals_encoding(tmp_path: Path) -> None:
    paths = draw(tmp_path, 5)
    encode = Encoder()
    filled = cache(tmp_path, paths)
    assert not filled.complete
    assert list(filled.fill(encode, 2)) == [2, 2, 1]
    assert filled.complete
    assert encode.seen == paths
    read = filled.read([4, 0, 0, 2]).annotations
    assert read.dtype == torch.float32
    assert torch.equal(read, encode.annotations([paths[i] for i in (4, 0, 0, 2)]).half().float())


def test_annotation_cache_is_found_again_and_not_computed_twice(tmp_path: Path) -> None:
    paths = draw(tmp_path, 3)
    encode = Encoder()
    list(cache(tmp_path, paths).fill(encode, 2))
    again = cache(tmp_path, paths)
    assert again.complete
    assert list(again.fill(encode, 2)) == []
    assert len(encode.seen) == 3
    assert torch.equal(again.read([1]).annotations, encode.annotations([paths[1]]).half().float())


def test_annotation_cache_cut_off_by_a_kill_is_not_taken_for_complete(tmp_path: Path) -> None:
    paths = draw(tmp_path, 5)
    encode = Encoder()
    filling = cache(tmp_path, paths).fill(encode, 2)
    next(filling)
    filling.close()
    assert any((tmp_path / "cache").iterdir())  # something was written
    again = cache(tmp_path, paths)
    assert not again.complete
    assert sum(again.fill(encode, 2)) == 5
    assert torch.equal(again.read(range(5)).annotations, encode.annotations(paths).half().float())
    assert cache(tmp_path, paths).complete


def test_annotation_cache_filled_by_several_processes_is_complete_when_all_have_finished(
    tmp_path: Path,
) -> None:
    paths = draw(tmp_path, 7)
    encode = Encoder()
    first, second = cache(tmp_path, paths), cache(tmp_path, paths)
    theirs = second.fill(encode, 2, rank=1, world=2)
    assert next(theirs) == 2  # whoever comes first
    assert sum(first.fill(encode, 2, rank=0, world=2)) == 4
    assert not cache(tmp_path, paths).complete
    assert list(theirs) == [1]
    first.finish()
    assert sorted(encode.seen) == paths  # each image once
    for each in (first, second, cache(tmp_path, paths)):
        read = each.read(range(7)).annotations
        assert torch.equal(read, encode.annotations(paths).half().float())


def test_annotation_cache_other_weights_or_images_are_another_file(tmp_path: Path) -> None:
    paths = draw(tmp_path, 3)
    first = cache(tmp_path, paths)
    files = {
        each.annotations.file
        for each in (
            first,
            cache(tmp_path, paths, "other"),
            cache(tmp_path, paths[::-1]),
            cache(tmp_path, paths[:2]),
        )
    }
    image(91, 61, seed=9).save(paths[0])  # the same name, another image
    files.add(cache(tmp_path, paths).annotations.file)
    assert len(files) == 5
    list(first.fill(Encoder(), 2))
    assert not cache(tmp_path, paths, "other").complete
