"""Every Prometheus instrument of the service. Each app has its own registry; none is global."""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BYTES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)


class Metrics:
    """Holds the instruments as attributes; `render` writes them in Prometheus' text format."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._add_request_instruments(self.registry)
        self._add_connection_instruments(self.registry)
        self._add_upload_instruments(self.registry)
        self._add_decode_instruments(self.registry)
        self._add_batch_instruments(self.registry)
        self._add_model_instruments(self.registry)
        self._add_job_instruments(self.registry)

    def _add_request_instruments(self, registry: CollectorRegistry) -> None:
        """Requests, and how they are answered."""
        self.requests = Counter(
            "glimpse_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "glimpse_http_request_seconds",
            "From a request's head to the end of its answer.",
            ["method", "route"],
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "glimpse_refused",
            "Requests answered with a problem document, by the end of its type's address.",
            ["reason"],
            registry=registry,
        )
        self.requests_in_flight = Gauge(
            "glimpse_http_requests_in_flight", "Requests being answered now.", registry=registry
        )
        self.receive_seconds = Histogram(
            "glimpse_receive_seconds",
            "From a request's head to the last byte of its body.",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )

    def _add_connection_instruments(self, registry: CollectorRegistry) -> None:
        """Connections, whatever is asked on them."""
        self.connections = Gauge(
            "glimpse_connections", "Connections that are open now.", registry=registry
        )
        self.connections_cut = Counter(
            "glimpse_connections_cut",
            "Connections ended by a limit: made-room, head-timeout, write-timeout, malformed, "
            "refused.",
            ["reason"],
            registry=registry,
        )

    def _add_upload_instruments(self, registry: CollectorRegistry) -> None:
        """Pictures on their way here, sent or fetched."""
        self.uploads = Gauge(
            "glimpse_uploads_arriving", "Uploads that arrive now.", registry=registry
        )
        self.upload_memory_bytes = Gauge(
            "glimpse_upload_memory_bytes",
            "Memory that uploads take, arriving or waiting for their answers.",
            registry=registry,
        )
        self.upload_bytes = Histogram(
            "glimpse_upload_bytes",
            "Size of the uploaded pictures.",
            buckets=_BYTES,
            registry=registry,
        )
        self.fetches = Counter(
            "glimpse_fetches",
            "Pictures fetched by URL: fetched, dropped, busy, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.fetch_seconds = Histogram(
            "glimpse_fetch_seconds",
            "Fetching a picture by URL, whatever came of it.",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )

    def _add_decode_instruments(self, registry: CollectorRegistry) -> None:
        """The decoder processes, and what they share."""
        self.decode_seconds = Histogram(
            "glimpse_decode_seconds",
            "Decoding and resizing a picture, its waits for a process and for memory included.",
            buckets=_SHORT_SECONDS,
            registry=registry,
        )
        self.decode_failures = Counter(
            "glimpse_decode_failures",
            "Pictures that were not decoded, by the problem that was answered.",
            ["problem"],
            registry=registry,
        )
        self.decode_waiting = Gauge(
            "glimpse_decode_waiting",
            "Pictures that wait for a decoder process, or for memory, now.",
            registry=registry,
        )
        self.decode_memory_bytes = Gauge(
            "glimpse_decode_memory_bytes",
            "Memory that running decodes may take, of GLIMPSE_DECODE_MEMORY_BYTES.",
            registry=registry,
        )
        self.decoder_processes = Gauge(
            "glimpse_decoder_processes", "Decoder processes that live now.", registry=registry
        )
        self.decoder_restarts = Counter(
            "glimpse_decoder_restarts",
            "Decoder processes that ended and were replaced.",
            ["reason"],
            registry=registry,
        )

    def _add_batch_instruments(self, registry: CollectorRegistry) -> None:
        """The queue, the batches, and the drawings."""
        self.queue_seconds = Histogram(
            "glimpse_queue_seconds",
            "A picture's wait for its batch.",
            buckets=_SHORT_SECONDS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "glimpse_queue_depth", "Pictures that wait for a batch now.", registry=registry
        )
        self.queue_limit = Gauge(
            "glimpse_queue_limit", "Pictures that may wait for a batch.", registry=registry
        )
        self.batch_size = Histogram(
            "glimpse_batch_size", "Pictures captioned together.", buckets=_SIZES, registry=registry
        )
        self.inference_seconds = Histogram(
            "glimpse_inference_seconds",
            "Captioning a batch.",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.batch_retries = Counter(
            "glimpse_batch_retries",
            "Batches that failed and were run again one picture at a time.",
            registry=registry,
        )
        self.item_failures = Counter(
            "glimpse_item_failures", "Pictures that could not be captioned.", registry=registry
        )
        self.render_seconds = Histogram(
            "glimpse_render_seconds",
            "Drawing an attention overlay.",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )

    def _add_model_instruments(self, registry: CollectorRegistry) -> None:
        """The models in memory, and their loads."""
        self.build = Gauge(
            "glimpse_build_info", "1 for the version that runs.", ["version"], registry=registry
        )
        self.ready = Gauge(
            "glimpse_ready",
            "1 when the canary picture has gone through, else 0.",
            registry=registry,
        )
        self.model = Gauge(
            "glimpse_model_info", "1 for each loaded model.", ["name", "digest"], registry=registry
        )
        self.runtime = Gauge(
            "glimpse_runtime_info",
            "1 for what the default model computes with, as it was chosen at the start.",
            ["runtime", "version", "precision", "threads"],
            registry=registry,
        )
        self.inference_lost = Counter(
            "glimpse_inference_lost",
            "Inference threads that hung or crashed and were replaced.",
            ["how"],
            registry=registry,
        )
        self.models_memory_bytes = Gauge(
            "glimpse_models_memory_bytes",
            "Memory that the loaded models' tensors take; what they share counts once.",
            registry=registry,
        )
        self.model_loads = Counter(
            "glimpse_model_loads",
            "Loads of a model: loaded, failed, or no room.",
            ["name", "outcome"],
            registry=registry,
        )
        self.model_unloads = Counter(
            "glimpse_model_unloads",
            "Models unloaded to make room for another.",
            ["name"],
            registry=registry,
        )
        self.model_load_seconds = Histogram(
            "glimpse_model_load_seconds",
            "Loading a model, its canary picture included.",
            buckets=_LOAD_SECONDS,
            registry=registry,
        )

    def _add_job_instruments(self, registry: CollectorRegistry) -> None:
        """Several pictures in one request: batches, and jobs where they are on."""
        self.jobs = Gauge("glimpse_jobs", "Jobs that are kept, ended ones too.", registry=registry)
        self.job_images = Counter(
            "glimpse_job_images",
            "Pictures of jobs that came to an end: captioned or failed.",
            ["outcome"],
            registry=registry,
        )
        self.picture_problems = Counter(
            "glimpse_picture_problems",
            "Pictures of a batch or a job that got a problem, by the end of its type's address.",
            ["reason"],
            registry=registry,
        )
        self.job_images_waiting = Gauge(
            "glimpse_job_images_waiting",
            "Pictures of jobs that are not captioned yet.",
            registry=registry,
        )
        self.job_waiting_bytes = Gauge(
            "glimpse_job_waiting_bytes",
            "What those take on the disk, of GLIMPSE_MAX_JOBS_BYTES.",
            registry=registry,
        )

    def expect_problems(self, reasons: Iterable[str], of_images: Iterable[str]) -> None:
        """Show each kind of problem as 0 from the start: a rate needs a value before the first."""
        for reason in reasons:
            self.refused.labels(reason)
        for problem in of_images:
            self.decode_failures.labels(problem)

    def batch_begins(self, size: int) -> None:
        """Count a batch of `size` images, as it begins."""
        self.batch_size.observe(size)

    def batch_ran(self, seconds: float) -> None:
        """Count the `seconds` that a batch took."""
        self.inference_seconds.observe(seconds)

    def group_retried(self) -> None:
        """Count images that failed together and are tried one at a time."""
        self.batch_retries.inc()

    def item_failed(self) -> None:
        """Count an image that could not be captioned."""
        self.item_failures.inc()

    def render(self) -> bytes:
        """Write every instrument in the text format that `CONTENT_TYPE_LATEST` names."""
        return generate_latest(self.registry)
