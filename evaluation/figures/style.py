"""How figures look: light ink on the dark ground of the service's own drawings.

Knows no captions. `Figure` is made without pyplot, so that no figure stays behind in a global list.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["FAINT", "GLOW", "GROUND", "INK", "bare", "new_figure"]

GROUND = "#12141a"
INK = "#f0f1f5"
FAINT = "#9ea4b2"
GLOW = "#ffb840"


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Make an empty figure of that size."""
    return Figure(
        figsize=(width_inches, height_inches), facecolor=GROUND, layout="constrained", dpi=100
    )


def bare(axes: Axes) -> Axes:
    """Take away the frame, the ticks and the ground of axes that show an image or a tree."""
    axes.set_axis_off()
    axes.set_facecolor(GROUND)
    return axes
