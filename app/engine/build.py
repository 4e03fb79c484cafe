"""From settings to an engine: which models, from where, with which limits."""

import os
from functools import partial

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine.catalog import BundleCatalog, Catalog
from app.engine.engine import CaptionEngine, EngineLimits
from app.engine.fake import FakeCatalog
from models.loading import prepare_computing_thread, prepare_loading_thread
from models.preprocessing import DecodeLimits
from models.threads import usable_processors

__all__ = ["build_catalog", "build_engine"]


def build_engine(settings: Settings, metrics: Metrics) -> CaptionEngine:
    """Build the engine that the settings describe, not yet started."""
    threads = _threads(settings)
    return CaptionEngine(
        build_catalog(settings),
        default_model=settings.model,
        limits=_limits(settings),
        metrics=metrics,
        prepare_thread=partial(
            prepare_computing_thread, settings.runtime, threads, settings.precision
        ),
        prepare_load_thread=partial(prepare_loading_thread, settings.runtime),
    )


def _threads(settings: Settings) -> int:
    """Tell how many threads compute: as asked, as OpenMP is told, or one for each processor."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return settings.compute_threads or (int(told) if told.isdigit() else 0) or usable_processors()


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
        decode_processes=settings.decode_processes,
        decode_memory_bytes=settings.decode_memory_bytes,
        decode_timeout_seconds=settings.decode_timeout_seconds,
        overlay_side_pixels=settings.overlay_side_pixels,
        max_batch_size=settings.max_batch_size,
        max_batch_wait_seconds=settings.max_batch_wait_seconds,
        max_queue_size=settings.max_queue_size,
        request_timeout_seconds=settings.request_timeout_seconds,
        batch_timeout_seconds=settings.batch_timeout_seconds,
        max_inference_restarts=settings.max_inference_restarts,
    )


def build_catalog(settings: Settings) -> Catalog:
    """Find the models that the settings name; nothing is loaded."""
    if settings.captioner == "fake":
        return FakeCatalog(settings.model, batch_seconds=settings.fake_batch_seconds)
    return BundleCatalog(
        settings.weights_folder,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=_threads(settings),
    )
