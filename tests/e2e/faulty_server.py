"""The real service around a captioner that hangs, crashes or fails with images of certain colors.

    python -m tests.e2e.faulty_server [load | canary | decoders]

The argument is what never ends, or never begins, at the start.

Everything but the captioner is what `glimpse serve` runs, settings included.
"""

import sys
import threading
from collections.abc import Sequence

from app.core.logging import configure_logging
from app.core.settings import load_settings
from app.engine import decoder_process, fake
from app.server.run import run_server
from models.caption import Caption, Captioner
from models.config import DecodingOptions
from models.preprocessing import PreparedImage

HANGS, CRASHES, FAILS, BREAKS = 200, 210, 220, 230
"""The red of an image that does it; the last one breaks the model for good."""


class FaultyCaptioner(fake.FakeCaptioner):
    """Does what an image's red asks for; the canary's is 255."""

    _broken = False

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption, or hang, or end the thread, or raise."""
        reds = {int(image.pixels[0].max()) for image in images}
        if HANGS in reds or "canary" in sys.argv:
            threading.Event().wait()
        if CRASHES in reds:
            raise SystemExit(7)
        self._broken = self._broken or BREAKS in reds
        if self._broken or FAILS in reds:
            raise RuntimeError("no such operator")
        return super().caption(images, options)


def _hang(_catalog: fake.FakeCatalog, _name: str) -> Captioner:
    threading.Event().wait()
    raise AssertionError


def main() -> None:
    """Serve until a signal."""
    settings = load_settings(captioner="fake")
    configure_logging(settings.log_format, settings.log_level)
    fake.FakeCaptioner = FaultyCaptioner  # type: ignore[misc]
    if "load" in sys.argv:
        fake.FakeCatalog.load = _hang  # type: ignore[assignment, method-assign]
    if "decoders" in sys.argv:
        decoder_process._PROGRAM = "tests.e2e.no_such_program"
    run_server(settings)


if __name__ == "__main__":
    main()
