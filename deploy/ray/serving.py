"""The service as a Ray Serve application, for those who run Ray already. Every setting is a
GLIMPSE_... variable, as everywhere.

    pip install '.[ray]'
    serve run deploy.ray.serving:application

Ray's proxy stands before the replicas: it reads HTTP, so what the service promises of slow and
malformed connections is Ray's to keep there; the rest is as in docs/operations.md.
"""

from typing import Any

from ray import serve

__all__ = ["Glimpse", "application"]


def build_app() -> Any:
    """Build the service in a replica; its models are loaded as the replica starts."""
    from app.core.settings import load_settings
    from app.main import create_app

    return create_app(load_settings())


@serve.deployment(
    ray_actor_options={"num_cpus": 2},
    max_ongoing_requests=128,  # the queue's own limit: beyond, Ray's proxy waits or answers 503
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 24},
    graceful_shutdown_timeout_s=30,
)
@serve.ingress(build_app)
class Glimpse:
    """A replica: one engine, its queue and its models."""


application = Glimpse.bind()
