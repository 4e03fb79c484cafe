"""The service as a Ray Serve application, for those who run Ray already.

    pip install '.[ray]'
    serve run deploy.ray.serving:application

Settings are the GLIMPSE_... variables of whoever starts it, as everywhere; paths in them are the
replicas'. Where Ray's proxy listens beyond its own machine, set GLIMPSE_KEYS_FILE and
GLIMPSE_ALLOWED_HOSTS. The proxy is Ray's: what the service promises of slow or malformed
connections is Ray's to keep there. The rest is as in docs/operations.md.
"""

import os
from typing import Any

from ray import serve

__all__ = ["application"]


def build_app() -> Any:
    """Build the service in a replica; its models are loaded as the replica starts."""
    from app.core.settings import load_settings
    from app.main import create_app

    return create_app(load_settings())


settings = {name: value for name, value in os.environ.items() if name.startswith("GLIMPSE_")}
deploy = serve.deployment(
    name="glimpse",
    ray_actor_options={"num_cpus": 2, "runtime_env": {"env_vars": settings}},
    max_ongoing_requests=128,  # of a replica, whose queue has as many places
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 24},
    graceful_shutdown_timeout_s=30,
)
application = deploy(serve.ingress(build_app)()).bind()
