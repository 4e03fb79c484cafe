"""Sends the canary through models, and keeps what each computes with. Knows no uploads.

Every model is proved after its load, before a user's image; the default one again whenever the
inference thread was replaced or its batches fail in a row.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from app.core.errors import DecoderLostError, StoppingError
from app.core.metrics import Metrics
from app.engine.batch_runner import BatchRunner, CaptionJob
from app.engine.canary import check_canary
from app.engine.supervisor import Compute, InferenceSupervisor
from models.caption import Captioner, RuntimeInfo
from models.preprocessing import PreparedImage

__all__ = ["Prover"]

_logger = logging.getLogger(__name__)


class Prover:
    """Proves captioners in the inference thread."""

    def __init__(
        self,
        supervisor: InferenceSupervisor,
        runner: BatchRunner,
        prepare_canary: Callable[[Captioner], Awaitable[PreparedImage]],
        metrics: Metrics,
    ) -> None:
        """Take the thread, what runs a batch, and what decodes the canary for a captioner."""
        self._supervisor = supervisor
        self._runner = runner
        self._prepare_canary = prepare_canary
        self._metrics = metrics
        self._runtimes: dict[str, RuntimeInfo] = {}

    def runtime(self, name: str) -> RuntimeInfo | None:
        """What the model of that name computes with; None where it was never loaded."""
        return self._runtimes.get(name)

    async def prove(self, captioner: Captioner) -> None:
        """Send the canary through a model that was just loaded; raise whatever goes wrong.

        Raises DecoderLostError where decoding the canary fails, which is not the model's fault.
        It is a batch of its own, after the one that runs, and needs no room in the queue.
        """
        try:
            image = await self._prepare_canary(captioner)
        except StoppingError:
            raise
        except Exception as error:  # the decoders' fault, whatever it is: the picture is ours
            raise DecoderLostError(
                f"The model '{captioner.info.name}' could not be tried, as the service's own "
                "picture was not decoded. Try again in a few seconds."
            ) from error
        async with self._supervisor.turn() as compute:
            await self.send(captioner, image, compute)
            self._runtimes[captioner.info.name] = await compute(lambda: captioner.runtime)

    async def send(self, captioner: Captioner, image: PreparedImage, compute: Compute) -> None:
        """Send the canary, as it was prepared for the captioner; raise whatever goes wrong."""
        job = CaptionJob(captioner, image, captioner.info.config.decoding)
        (caption,) = await compute(partial(self._runner.run, [job]))
        if isinstance(caption, Exception):
            raise caption
        check_canary(caption)

    async def announce(self, captioner: Captioner) -> None:
        """Say in the log and in a metric what the default model computes with."""
        runtime = await self._supervisor.run(lambda: captioner.runtime)
        self._runtimes[captioner.info.name] = runtime
        labels = (runtime.name, runtime.version, runtime.precision, str(runtime.threads))
        self._metrics.runtime.labels(*labels).set(1)
        extra = {
            "model": captioner.info.name,
            "digest": captioner.info.digest[:12],
            "runtime": runtime.name,
            "version": runtime.version,
            "precision": runtime.precision,
            "threads": runtime.threads,
            "because": runtime.reason,
        }
        _logger.info("computes with", extra=extra)
