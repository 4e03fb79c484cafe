"""From settings to an engine: which captioner, from where, with which limits."""

import logging
from collections.abc import Callable
from functools import partial

import torch

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine.engine import CaptionEngine
from app.engine.fake import FakeCaptioner
from models.captioner import Captioner, load_captioner
from models.preprocessing import DecodeLimits
from models.registry import list_models

__all__ = ["build_engine"]

_logger = logging.getLogger(__name__)


def build_engine(settings: Settings, metrics: Metrics) -> CaptionEngine:
    """The engine that the settings describe, not yet started."""
    load, list_names = _fake(settings) if settings.captioner == "fake" else _real(settings)
    return CaptionEngine(
        load,
        list_names,
        metrics=metrics,
        limits=DecodeLimits(max_pixels=settings.max_pixels, min_side_pixels=settings.min_side_pixels),
        decode_threads=settings.decode_threads,
        overlay_side_pixels=settings.overlay_side_pixels,
        max_batch_size=settings.max_batch_size,
        max_batch_wait_seconds=settings.max_batch_wait_seconds,
        max_queue_size=settings.max_queue_size,
        request_timeout_seconds=settings.request_timeout_seconds,
    )


def _fake(settings: Settings) -> tuple[Callable[[], Captioner], Callable[[], list[str]]]:
    return partial(_load_fake, settings), lambda: [settings.model]


def _real(settings: Settings) -> tuple[Callable[[], Captioner], Callable[[], list[str]]]:
    return partial(_load_real, settings), partial(list_models, settings.weights_folder)


def _load_fake(settings: Settings) -> Captioner:
    _logger.warning("the captions are invented: GLIMPSE_CAPTIONER is 'fake'")
    return FakeCaptioner(settings.model, batch_seconds=settings.fake_batch_seconds)


def _load_real(settings: Settings) -> Captioner:
    """In the inference thread: PyTorch's number of threads is set where it is used."""
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    return load_captioner(settings.weights_folder, settings.model, precision=settings.precision)
