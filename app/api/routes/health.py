"""`/healthz`, `/readyz` and `/metrics`: for the machines that look after this one."""

from fastapi import APIRouter, Response

from app.api import examples
from app.api.deps import EngineDep, MetricsDep
from app.api.openapi import json_example, problems
from app.api.schemas import Health
from app.core.errors import NotReadyError, StoppingError
from app.core.metrics import CONTENT_TYPE_LATEST
from app.core.settings import DEFAULT_MODEL
from app.engine.engine import EngineState

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get(
    "/healthz",
    summary="Alive?",
    response_model_exclude_none=True,
    responses={
        200: json_example({"status": "alive"}, "The process works."),
        **problems(NotReadyError),
    },
)
async def healthz(engine: EngineDep) -> Health:
    """200 while the process works, loading included; 503 where only a restart helps."""
    if engine.state is EngineState.failed:
        engine.check_ready()
    return Health(status="alive")


@router.get(
    "/readyz",
    summary="Ready?",
    responses={
        200: json_example({"status": "ready", "model": DEFAULT_MODEL}, "Requests are answered."),
        **problems(NotReadyError, StoppingError),
    },
)
async def readyz(engine: EngineDep) -> Health:
    """200 once a canary picture has gone the whole way through the default model; 503 before,
    and while stopping."""
    engine.check_ready()
    return Health(status="ready", model=engine.default_model)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Every instrument, in Prometheus' text format.",
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": examples.metrics_text()}
            },
        }
    },
)
async def metrics(instruments: MetricsDep) -> Response:
    """Requests, latencies, batch sizes, queue depth, and the time of each stage."""
    return Response(instruments.render(), media_type=CONTENT_TYPE_LATEST)
