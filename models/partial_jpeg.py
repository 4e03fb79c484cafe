"""A JPEG that ends early: how much of it is there, and what is said of the rest.

`models.image_files.jpeg` arranges that the decoder waits for more where the file is cut. Pillow
gives that as an error and keeps the lines that it has: they are told from the others by the color
that the image was painted with before.
"""

import numpy as np
from PIL import Image, JpegImagePlugin

__all__ = ["load_jpeg"]

_LEAST_SHARE = 0.75
# No decoded line is all of this color, but by chance.
_Color = int | tuple[int, ...]
_UNDECODED: dict[str, _Color] = {"L": 1, "RGB": (255, 0, 254), "CMYK": (1, 254, 0, 1)}
_GRAY: dict[str, _Color] = {"L": 128, "RGB": (128, 128, 128), "CMYK": (0, 0, 0, 127)}
_STRIP_ROWS = 64
_PILLOW_SAYS = "image file is truncated"


def load_jpeg(image: JpegImagePlugin.JpegImageFile) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode a JPEG whose header has been read: the image, and sentences for the user.

    Lines that are missing are gray, as in a browser. Raises OSError where more than a quarter of
    them are, and what the plugin raises of a file that is damaged.
    """
    canvas = Image.new(image.mode, image.size, _UNDECODED[image.mode])
    image.im = canvas.im
    try:
        image.load()
    except OSError as error:
        if not str(error).startswith(_PILLOW_SAYS):
            raise
        lines = _decoded_lines(canvas)
        if lines < _LEAST_SHARE * canvas.height:
            raise
    else:
        return canvas, ()
    canvas.paste(_GRAY[canvas.mode], (0, lines, canvas.width, canvas.height))
    missing = max(1, round(100 * (1 - lines / canvas.height)))
    return canvas, (f"The JPEG file ends early: {missing} % of the picture is missing.",)


def _decoded_lines(canvas: Image.Image) -> int:
    """Count the lines up to the last one that is not all of the undecoded color."""
    blank = np.array(_UNDECODED[canvas.mode], dtype=np.uint8)
    for bottom in range(canvas.height, 0, -_STRIP_ROWS):
        top = max(0, bottom - _STRIP_ROWS)
        strip = np.asarray(canvas.crop((0, top, canvas.width, bottom)))
        painted = np.flatnonzero((strip != blank).reshape(bottom - top, -1).any(axis=1))
        if painted.size:
            return top + int(painted[-1]) + 1
    return 0
