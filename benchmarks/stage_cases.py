"""What a caption is made of, as calls that can be timed one by one. Measures nothing.

A new runtime is one more line in `RUNTIMES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.api.answers import attention_response, caption_response
from app.engine.overlay import draw_overlay
from app.engine.records import Captioned
from benchmarks.photos import PHOTO_SIZE, made_up_jpeg, photos
from benchmarks.reports import ROOT
from models.array_features import Features
from models.bundles.checkpoint import load_checkpoint
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.loading import describe_captioner
from models.preprocessing import DecodeLimits, PreparedImage, decode_image, prepare_image
from models.runtime import Runtime
from models.runtime.torch import TorchRuntime

__all__ = ["RUNTIMES", "Case", "Loaded", "file_cases", "load_runtime", "network_cases"]

JPEG_SIZES = (PHOTO_SIZE, (1280, 960), (4000, 3000))
_DRAWING_PIXELS = 1280
_STEP_WORD = 4  # any word; what it is changes nothing


@dataclass(frozen=True, slots=True)
class Case:
    """One call to be timed.

    stage: what it is of, for the rows of a table. column: the rest of its name. images: that one
    call deals with.
    """

    stage: str
    column: str
    images: int
    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in a runtime: the captioner, and the runtime itself, whose decoder is stepped."""

    name: str
    captioner: NetworkCaptioner
    runtime: Runtime[Any]


def _torch_runtime(folder: Path, precision: Any) -> tuple[Runtime[Any], NetworkCaptioner]:
    checkpoint = load_checkpoint(folder)
    runtime = TorchRuntime(checkpoint.model, checkpoint.config.preprocess, precision=precision)
    info = describe_captioner(folder.parent, folder.name)
    return runtime, NetworkCaptioner(runtime, checkpoint.vocabulary, info, kept=checkpoint.shared)


RUNTIMES: Mapping[str, Callable[[Path], tuple[Runtime[Any], NetworkCaptioner]]] = {
    "torch float32": lambda folder: _torch_runtime(folder, "float32"),
    "torch bfloat16": lambda folder: _torch_runtime(folder, "bfloat16"),
}
"""How to load a bundle into each runtime, by name."""


def load_runtime(name: str, model: str) -> Loaded:
    """Load a bundle of the weights folder."""
    runtime, captioner = RUNTIMES[name](ROOT / "weights" / model)
    return Loaded(name, captioner, runtime)


def file_cases(loaded: Loaded, options: DecodingOptions) -> list[Case]:
    """Give what happens to one photo around the network: files in, answers out."""
    preprocess = loaded.captioner.info.config.preprocess
    side = preprocess.size_pixels
    cases = []
    for width, height in JPEG_SIZES:
        data = made_up_jpeg(width, height)
        decoded = decode_image(data, side_pixels=side)
        name = f"{width} x {height}"
        cases.append(Case("decode JPEG", name, 1, _decoding(data, side)))
        cases.append(Case("resize", name, 1, _resizing(decoded, preprocess)))
    data = photos()[0]
    prepared = loaded.captioner.prepare(data, DecodeLimits())
    answer = _answer(loaded.captioner, prepared, options)
    image = Image.open(BytesIO(data)).convert("RGB")
    cases.append(Case("render maps", "", 1, _drawing(image, answer)))
    cases.append(Case("JSON of /caption", "", 1, lambda: _json(caption_response(answer))))
    cases.append(Case("JSON of /attention", "", 1, lambda: _json(attention_response(answer))))
    return cases


def network_cases(
    loaded: Loaded, batches: Sequence[int], options: DecodingOptions, *, search: bool
) -> list[Case]:
    """Give the encoder's cases in every batch size, and with `search` those of the decoder.

    The search is measured with the beams of `options`, and with twice as many.
    """
    captioner = loaded.captioner
    prepared = [captioner.prepare(data, DecodeLimits()).pixels for data in photos()]
    pixels = np.stack(prepared)  # (16, 3, S, S)
    width = options.beam_size
    twice = options.model_copy(update={"beam_size": 2 * width})
    cases = []
    for size in batches:
        images = pixels[np.arange(size) % len(pixels)]  # (B, 3, S, S)
        column = f"{loaded.name}, batch {size}"
        cases.append(Case("encoder", column, size, _encoding(captioner, images)))
        if not search:
            continue
        features = captioner.encode_pixels(images)
        step = _stepping(loaded.runtime, features, width)
        cases.append(Case(f"decoder step, beam {width}", column, size, step))
        for each in (options, twice):
            name = f"beam search, beam {each.beam_size}"
            cases.append(Case(name, column, size, _searching(captioner, features, each)))
    return cases


def _decoding(data: bytes, side: int) -> Callable[[], Any]:
    return lambda: decode_image(data, side_pixels=side)


def _resizing(decoded: Any, preprocess: Any) -> Callable[[], Any]:
    return lambda: prepare_image(decoded, preprocess)


def _encoding(captioner: NetworkCaptioner, pixels: npt.NDArray[np.uint8]) -> Callable[[], Any]:
    return lambda: captioner.encode_pixels(pixels)


def _searching(
    captioner: NetworkCaptioner, features: Features, options: DecodingOptions
) -> Callable[[], Any]:
    return lambda: captioner.caption_features(features, options)


def _stepping(runtime: Runtime[Any], features: Features, width: int) -> Callable[[], Any]:
    """Score the next word of every beam once."""
    rows = np.repeat(np.arange(len(features)), width)  # (R,)
    words = np.full(len(rows), _STEP_WORD)
    state = runtime.decoder.init_state(features).select(rows)
    return lambda: runtime.decoder.step(words, state)


def _answer(
    captioner: NetworkCaptioner, prepared: PreparedImage, options: DecodingOptions
) -> Captioned:
    (caption,) = captioner.caption([prepared], options)
    return Captioned(caption, prepared, captioner.info, 0.0, 0.0, 0.0)


def _drawing(image: Image.Image, answer: Captioned) -> Callable[[], Any]:
    caption = answer.caption
    return lambda: draw_overlay(image, caption, word=None, side_pixels=_DRAWING_PIXELS)


def _json(response: Any) -> str:
    return str(response.model_dump_json(exclude_none=True))
