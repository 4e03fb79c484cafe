"""The canary: an image of ours that goes through a new model before any user's does."""

from io import BytesIO

import numpy as np
from PIL import Image

from app.core.errors import CanaryError
from models.caption import Caption

__all__ = ["canary_image", "check_canary"]


# Those of the accepted formats that Pillow writes.
_WRITTEN = ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF", "AVIF")


def canary_image(side_pixels: int, formats: tuple[str, ...]) -> bytes:
    """Draw a color gradient, `side_pixels` wide and high: a file of one of these formats, PNG if it
    is among them. They are not HEIC alone."""
    ramp = np.linspace(0, 255, side_pixels, dtype=np.uint8)
    across, down = np.meshgrid(ramp, ramp)
    rgb = np.stack([across, down, 255 - across], axis=-1)  # (side, side, 3)
    file = BytesIO()
    format_name = next(name for name in _WRITTEN if name in formats)
    Image.fromarray(rgb).save(file, format=format_name)
    return file.getvalue()


def check_canary(caption: Caption) -> None:
    """Raise CanaryError unless the probabilities are in range and the maps sum to 1."""
    if not caption.hypotheses:
        raise CanaryError("the model gave no caption for the canary image")
    for hypothesis in caption.hypotheses:
        for word in hypothesis.words:
            total = float(word.alpha.sum(dtype=np.float64))
            # NaN fails both comparisons.
            if not abs(total - 1.0) < 1e-3 or not 0.0 <= word.probability <= 1.0:
                raise CanaryError(
                    f"the canary's word {word.text!r} has probability {word.probability} and a "
                    f"map that sums to {total}"
                )
