"""Builds the fetcher that the settings describe."""

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.fetch.fetcher import FetchLimits, ImageFetcher
from app.fetch.policy import FetchPolicy

__all__ = ["build_fetcher"]


def build_fetcher(settings: Settings, metrics: Metrics) -> ImageFetcher | None:
    """Build the fetcher; None where captioning by URL is off."""
    if not settings.fetch_urls:
        return None
    policy = FetchPolicy(
        ports=frozenset(settings.fetch_ports),
        allowed_hosts=settings.fetch_allowed_hosts,
        private_networks=settings.fetch_private_networks,
    )
    limits = FetchLimits(
        max_bytes=settings.max_upload_bytes,
        timeout_seconds=settings.fetch_timeout_seconds,
        max_fetches=settings.max_fetches,
    )
    return ImageFetcher(policy, limits, metrics=metrics)
