"""An image of four colors, and where they are seen once it has been turned."""

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

# Where the stored image's red, green, blue and white corners (top left, top right, bottom left,
# bottom right) are seen after each orientation has been applied; from the EXIF 2.32 table of "0th
# row" and "0th column".
SEEN_CORNERS = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


def painted_corners(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (128, 128, 128))
    for color, (x, y) in zip(
        (RED, GREEN, BLUE, WHITE), [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True
    ):
        left, top = x * (width - width // 3), y * (height - height // 3)
        image.paste(color, (left, top, left + width // 3, top + height // 3))
    return image


def corner_colors(image: Image.Image) -> list[tuple[int, ...]]:
    """Colors near the corners: top left, top right, bottom left, bottom right."""
    right, bottom = image.width - 4, image.height - 4
    return [tuple(np.asarray(image)[y, x]) for y in (3, bottom) for x in (3, right)]
