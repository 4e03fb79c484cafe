"""The real service around two fake models, for the page's side-by-side view.

    python -m tests.e2e.two_models_server

Everything but the catalog is what `glimpse serve` runs, settings included.
"""

from collections.abc import Sequence
from dataclasses import replace

from app.core.logging import configure_logging
from app.core.settings import load_settings
from app.engine import build, fake
from app.server.run import run_server
from models.caption import Caption, Captioner, ModelInfo
from models.config import DecodingOptions
from models.geometry import Box, CellGrid
from models.preprocessing import PreparedImage

OTHER = "other"


class RimmedFake(fake.FakeCaptioner):
    """Has maps that leave a rim of the image out, as those of real encoders do."""

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        grid = CellGrid(14, 14, Box(0.05, 0.2, 0.85, 0.9))
        return [replace(caption, grid=grid) for caption in super().caption(images, options)]


class TwoFakes(fake.FakeCatalog):
    """Has the fake model that every test has, and one more."""

    def __init__(self, name: str, *, batch_seconds: float = 0.0) -> None:
        super().__init__(name, batch_seconds=batch_seconds)
        self._other = RimmedFake(OTHER, batch_seconds=batch_seconds)

    def names(self) -> list[str]:
        return [*super().names(), OTHER]

    def describe(self, name: str) -> ModelInfo:
        return self._other.info if name == OTHER else super().describe(name)

    def load(self, name: str) -> Captioner:
        return self._other if name == OTHER else super().load(name)


def main() -> None:
    """Serve until a signal."""
    settings = load_settings(captioner="fake")
    configure_logging(settings.log_format, settings.log_level)
    build.FakeCatalog = TwoFakes  # type: ignore[attr-defined]
    run_server(settings)


if __name__ == "__main__":
    main()
