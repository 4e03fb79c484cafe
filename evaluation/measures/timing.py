"""How long encoders and decoders take on this machine, one image at a time. Knows no scores."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evaluation.results import Machine, TimingSettings
from models.array_features import Features
from models.captioner import NetworkCaptioner
from models.preprocessing import DecodeLimits
from training.data.datasets import CaptionedImage

__all__ = ["Milliseconds", "describe_machine", "describe_timing", "time_group"]

_TIMED_IMAGES = 32
_WARM_UP_IMAGES = 4


class Milliseconds(NamedTuple):
    """The median time of a model's two halves for one image."""

    encoder: float
    decoder: float


def describe_timing(images: int) -> TimingSettings:
    """Say how many of `images` images are timed."""
    return TimingSettings(images=min(_TIMED_IMAGES, images), warm_up=_WARM_UP_IMAGES)


def describe_machine(captioners: Sequence[NetworkCaptioner]) -> Machine:
    """Say what is measured on."""
    captioner = captioners[0]
    known = {f"{each.runtime.name} {each.runtime.version}" for each in captioners}
    return Machine(
        processor=_processor(),
        torch=torch.__version__,
        runtimes=tuple(sorted(known)),
        threads=torch.get_num_threads(),
        precision=captioner.precision,
    )


def time_group(
    group: Sequence[NetworkCaptioner], images: Sequence[CaptionedImage]
) -> dict[str, Milliseconds]:
    """Time captioners of one encoding, warm, on the first images: by name, medians.

    The encoder is timed once. Decoding of files is not timed.
    """
    first = group[0]
    timed = [image.path.read_bytes() for image in images[:_TIMED_IMAGES] if image.path is not None]
    prepared = [[first.prepare(data, DecodeLimits())] for data in timed]
    features = [first.encode(each) for each in prepared]
    encoder = _median_milliseconds(first.encode, prepared)
    return {
        each.info.name: Milliseconds(encoder, _median_milliseconds(_search(each), features))
        for each in group
    }


def _search(captioner: NetworkCaptioner) -> Callable[[Features], Any]:
    """Give the search of a captioner, with its own options, over features."""
    options = captioner.info.config.decoding
    return lambda features: captioner.caption_features(features, options)


def _median_milliseconds(function: Callable[[Any], Any], inputs: Sequence[Any]) -> float:
    for each in inputs[:_WARM_UP_IMAGES]:
        function(each)
    seconds = []
    for each in inputs:
        start = time.perf_counter()
        function(each)
        seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds), 1)


def _processor() -> str:
    """Name the processor as the platform does; Linux says it in a file."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
