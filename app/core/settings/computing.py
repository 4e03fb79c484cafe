"""The settings of captioning: what computes, in which batches, and how long anyone waits.

A part of `app.core.settings.Settings`, and never read alone.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

__all__ = ["ComputeSettings"]


class ComputeSettings(BaseSettings):
    """What computes captions, in which batches, and how long anyone waits for them."""

    captioner: Annotated[
        Literal["real", "fake"],
        Field(
            description="`fake` needs no weights and invents its captions: for trying out a client "
            "or a deployment."
        ),
    ] = "real"
    fake_batch_seconds: Annotated[
        float, Field(ge=0.0, le=60.0, description="How long the fake captioner takes for a batch.")
    ] = 0.0
    compute_threads: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="Threads that compute one batch; 0 takes as many as `OMP_NUM_THREADS` "
            "says, or else every core that the process may use.",
        ),
    ] = 0
    runtime: Annotated[
        Literal["auto", "torch", "openvino"],
        Field(
            description="What computes; `auto` takes OpenVINO for the models that it can run, "
            "where it is installed, and PyTorch for the others, where that is installed (the extra "
            "`torch`)."
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(
            description="What the encoder computes in; `auto` takes bfloat16 where the processor "
            "is clearly faster so."
        ),
    ] = "auto"
    max_batch_size: Annotated[
        int, Field(ge=1, le=1024, description="Most pictures captioned together.")
    ] = 16
    max_batch_wait_seconds: Annotated[
        float,
        Field(
            ge=0.0,
            le=1.0,
            description="How long a picture may wait for others that are being decoded, to share "
            "its batch.",
        ),
    ] = 0.01
    max_queue_size: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Pictures that may wait; beyond, requests are answered 503.",
        ),
    ] = 128
    request_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=3600.0,
            description="Longest time from the whole upload to its answer, the wait for a model's "
            "load included. A client may ask for less: `X-Request-Timeout-Seconds`.",
        ),
    ] = 30.0
    batch_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=3600.0,
            description="Longest time for one batch; beyond, the thread that computes counts as "
            "hung: its callers are answered 503, and a new thread takes over.",
        ),
    ] = 60.0
    max_inference_restarts: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="How often a thread that hung or crashed is replaced within ten minutes; "
            "the next time the process ends with 1, for its supervisor to start it again.",
        ),
    ] = 3
