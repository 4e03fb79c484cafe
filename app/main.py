"""The application: settings in, a FastAPI app out. Knows no sockets.

Importing this starts nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from app import __version__
from app.api.access import KeyMiddleware, RateMiddleware
from app.api.errors import decode_problems, problem_reasons, register_error_handlers
from app.api.forwarded import ForwardedMiddleware
from app.api.job_images import job_captioner
from app.api.middleware import HeadMiddleware, RequestMiddleware, WholeMiddleware
from app.api.openapi import install_openapi
from app.api.pages import EXPOSED_HEADERS, PageMiddleware, SecurityHeadersMiddleware
from app.api.routes import attention, captions, docs, health, jobs, models, page
from app.api.upload_places import UploadPlaces
from app.api.uploads import BodyLimits, Refuse, UploadMiddleware
from app.core.addresses import TrustedProxies, split_addresses
from app.core.errors import ServiceError
from app.core.keys import KeyStore
from app.core.metrics import Metrics
from app.core.rates import Limits
from app.core.settings import Settings, variable_name
from app.core.tracing import Tracing
from app.engine.build import build_engine
from app.engine.engine import CaptionEngine, EngineState
from app.fetch.build import build_fetcher
from app.jobs.build import build_job_keeper
from app.jobs.keeper import JobKeeper
from models.errors import GlimpseError

__all__ = ["create_app"]

_logger = logging.getLogger(__name__)

_DESCRIPTION = """
Glimpse turns a photo into a sentence, and shows, word by word, where it looked.

Send a picture in the form field `image`; options are parameters of the address, or further fields
of the form. The picture may also be the body itself, or in base64 the member `image` of a JSON
object; where the operator has turned that on, the member `url` may name its address.
Every error is a problem document (RFC 9457): `detail` says what is wrong and what would be right.
"""

# The framework would send spans, metrics and logs of its own, with queries and tracebacks in them.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}

_TAGS = [
    {"name": "captions", "description": "A picture in, its caption out."},
    {"name": "jobs", "description": "Many pictures, captioned while nobody waits."},
    {"name": "models", "description": "Which models there are."},
    {"name": "operations", "description": "For the machines that look after this one."},
]


def create_app(
    settings: Settings,
    engine: CaptionEngine | None = None,
    *,
    on_fatal: Callable[[str], None] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the whole service, not yet started.

    Its lifespan loads the default model, and warms it up in the background.
    engine: in place of the one that the settings describe; for tests.
    on_fatal: ends the process with 1, after it has answered what it can; it takes the reason, a
    sentence for the log, may be called from any thread, and is `app.state.on_fatal`.
    tracing: where the spans of requests go; its lifespan ends it.
    """
    metrics = Metrics()
    metrics.build.labels(__version__).set(1)
    metrics.expect_problems(problem_reasons(), decode_problems())
    app = FastAPI(
        title="Glimpse",
        version=__version__,
        summary="A photo in, a sentence out, and where it looked.",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url=None,  # app.api.routes.docs serves it
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        telemetry=_NO_TELEMETRY,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.on_fatal = on_fatal or _log_fatal
    app.state.stopping = _Stopping(settings.shutdown_timeout_seconds)
    app.state.begin_to_stop = app.state.stopping.begin
    app.state.tracing = tracing
    app.state.engine = engine or build_engine(settings, metrics)
    app.state.fetcher = build_fetcher(settings, metrics)
    app.state.jobs = build_job_keeper(settings, metrics)
    app.state.engine.when_failed(app.state.on_fatal)
    for routes in (captions, attention, jobs, models, health, docs, page):
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=docs.WEB_FOLDER), name="static")
    register_error_handlers(app)
    install_openapi(app, settings)
    limits = _limits(settings)
    _add_upload_middleware(app, settings, metrics, limits)
    _guard(app, settings, Refuse(limits))
    app.add_middleware(WholeMiddleware)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(RequestMiddleware, metrics=metrics, tracing=tracing)
    app.add_middleware(SecurityHeadersMiddleware)
    proxies = TrustedProxies(split_addresses(settings.trusted_proxies))
    app.add_middleware(ForwardedMiddleware, proxies=proxies, root_path=settings.root_path)
    return app


def _limits(settings: Settings) -> BodyLimits:
    # What one client's uploads may take in memory: JSON and the images in it, a quarter smaller,
    # are there together.
    share_bytes = max(settings.max_upload_bytes, settings.max_upload_memory_bytes // 2)
    return BodyLimits(
        max_bytes=settings.max_upload_bytes,
        idle_timeout_seconds=settings.body_idle_timeout_seconds,
        timeout_seconds=settings.body_timeout_seconds,
        min_bytes_per_second=settings.min_upload_bytes_per_second,
        max_bytes_at={
            "/caption/batch": min(settings.max_batch_bytes, share_bytes),
            "/jobs": min(settings.max_job_bytes, share_bytes),
        },
        max_json_bytes=4 * share_bytes // 7,
    )


def _add_upload_middleware(
    app: FastAPI, settings: Settings, metrics: Metrics, limits: BodyLimits
) -> None:
    places = UploadPlaces(
        max_uploads=settings.max_uploads,
        max_per_client=settings.max_uploads_per_client,
        memory_bytes=settings.max_upload_memory_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        metrics=metrics,
        retry_after_seconds=lambda: app.state.engine.retry_after_seconds,
    )
    app.add_middleware(UploadMiddleware, limits=limits, places=places)


class _Stopping:
    """The one time limit of a stop: the server's wait for answers and the engine's share it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def begin(self) -> None:
        """Note that the stop begins; the first time counts."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds

    def seconds_left(self) -> float:
        """Give the time until the limit, a second at least."""
        self.begin()
        assert self._deadline is not None
        return max(1.0, self._deadline - time.monotonic())


def _log_fatal(reason: str) -> None:
    """Say what would end the process, where no server runs that could be ended."""
    _logger.critical("cannot go on: %s", reason)


def _guard(app: FastAPI, settings: Settings, refuse: Refuse) -> None:
    """Put the checks of who may ask around what the app has so far: the last added is outermost.

    Rates count only what has a good key; preflight requests have none, and are answered before.
    """
    limits = Limits(settings.requests_per_minute, settings.requests_per_day)
    app.add_middleware(RateMiddleware, limits=limits, refuse=refuse)
    if settings.keys_file:
        app.add_middleware(
            KeyMiddleware,
            keys=KeyStore(settings.keys_file, time.monotonic),
            metrics_open=settings.metrics_open,
            refuse=refuse,
        )
    origins = settings.foreign_origins
    if origins is None or origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=["*"] if origins is None else sorted(map(str, origins)),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=[
                "Authorization",
                "X-API-Key",
                "X-Request-ID",
                "X-Request-Timeout-Seconds",
            ],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(
        PageMiddleware,
        host_names=settings.host_names,
        foreign_origins=origins,
        refuse=refuse,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the default model before listening, and warm it up while listening.

    At the end, answer what waits.
    """
    engine: CaptionEngine = app.state.engine
    jobs: JobKeeper | None = app.state.jobs
    limit_seconds: float = app.state.settings.start_timeout_seconds
    deadline = asyncio.get_running_loop().time() + limit_seconds
    await _start_or_explain(engine, jobs, deadline, limit_seconds)
    if jobs is not None:
        most_bytes = app.state.settings.max_upload_bytes
        jobs.start(job_captioner(engine, app.state.metrics, most_bytes))
    warming_up = asyncio.create_task(_warm_up(app, deadline))
    try:
        yield
    finally:
        _logger.info("stopping: answering what waits")
        warming_up.cancel()
        await asyncio.gather(warming_up, return_exceptions=True)
        if jobs is not None:
            await jobs.stop()
        await engine.stop(drain_seconds=app.state.stopping.seconds_left())
        if app.state.tracing is not None:
            await asyncio.to_thread(app.state.tracing.stop)


async def _start_or_explain(
    engine: CaptionEngine, jobs: JobKeeper | None, deadline: float, limit_seconds: float
) -> None:
    """Open the jobs and start the engine; if that fails, log why in a sentence and let the server
    end."""
    state = engine.state
    try:
        async with asyncio.timeout_at(deadline) as clock:
            if jobs is not None:
                await jobs.open()
            await engine.start()
    except (GlimpseError, ServiceError) as error:
        _logger.critical("cannot start: %s", error)
        raise
    except Exception:
        if clock.expired():
            _logger.critical("cannot start: %s", _too_late(state, limit_seconds))
        else:
            _logger.critical("cannot start", exc_info=True)
        raise


async def _warm_up(app: FastAPI, deadline: float) -> None:
    """Warm the engine up; end the process where that takes too long."""
    engine: CaptionEngine = app.state.engine
    try:
        async with asyncio.timeout_at(deadline) as clock:
            await engine.warm_up()
    except TimeoutError:
        if not clock.expired():
            raise
        app.state.on_fatal(_too_late(engine.state, app.state.settings.start_timeout_seconds))


def _too_late(state: EngineState, limit_seconds: float) -> str:
    return (
        f"the model is still {state} after {limit_seconds:g} seconds, which is "
        f"{variable_name('start_timeout_seconds')}"
    )
