"""From settings to an engine: which models, from where, with which limits."""

from functools import partial

import torch

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine.catalog import BundleCatalog, Catalog
from app.engine.engine import CaptionEngine, EngineLimits
from app.engine.fake import FakeCatalog
from models.preprocessing import DecodeLimits

__all__ = ["build_engine"]


def build_engine(settings: Settings, metrics: Metrics) -> CaptionEngine:
    """Build the engine that the settings describe, not yet started."""
    return CaptionEngine(
        _catalog(settings),
        default_model=settings.model,
        limits=_limits(settings),
        metrics=metrics,
        prepare_thread=partial(_set_threads, settings.torch_threads),
    )


def _limits(settings: Settings) -> EngineLimits:
    return EngineLimits(
        models_memory_bytes=settings.models_memory_bytes,
        max_waiting_for_loads=max(1, settings.max_uploads // 2),
        image=DecodeLimits(
            max_pixels=settings.max_pixels,
            max_jpeg_pixels=settings.max_jpeg_pixels,
            min_side_pixels=settings.min_side_pixels,
            formats=tuple(settings.formats.split(",")),
        ),
        decode_threads=settings.decode_threads,
        overlay_side_pixels=settings.overlay_side_pixels,
        max_batch_size=settings.max_batch_size,
        max_batch_wait_seconds=settings.max_batch_wait_seconds,
        max_queue_size=settings.max_queue_size,
        request_timeout_seconds=settings.request_timeout_seconds,
    )


def _catalog(settings: Settings) -> Catalog:
    if settings.captioner == "fake":
        return FakeCatalog(settings.model, batch_seconds=settings.fake_batch_seconds)
    return BundleCatalog(settings.weights_folder, precision=settings.precision)


def _set_threads(torch_threads: int) -> None:
    """Set how many threads PyTorch uses, in the thread that computes; 0 leaves it as it is."""
    if torch_threads:
        torch.set_num_threads(torch_threads)
