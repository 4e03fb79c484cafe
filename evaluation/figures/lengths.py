"""BLEU by the length of the source, a line for each translator: where one vector forgets."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from evaluation.figures.style import FAINT, GROUND, INK, new_figure
from evaluation.translation_results import LengthPoint

__all__ = ["length_figure"]

_COLORS = ("#ffb840", "#6cb6ff", "#8ddb8c", "#f69d9d", "#c8a2ff", "#7fe0d8")
_WIDTH_INCHES, _HEIGHT_INCHES = 8.0, 4.5


def length_figure(curves: Mapping[str, Sequence[LengthPoint]]) -> Figure:
    """Draw BLEU, times 100, over words of the source; the bands are 95 % intervals.

    curves: by what the legend calls them.
    """
    figure = new_figure(_WIDTH_INCHES, _HEIGHT_INCHES)
    axes = figure.add_subplot(facecolor=GROUND)
    for number, (name, points) in enumerate(curves.items()):
        color = _COLORS[number % len(_COLORS)]
        places = [(point.shortest + point.longest) / 2 for point in points]
        axes.plot(places, _scores(points, "value"), marker="o", color=color, label=name)
        axes.fill_between(
            places, _scores(points, "low"), _scores(points, "high"), color=color, alpha=0.12
        )
    axes.set_xlabel("words of the source sentence", color=INK)
    axes.set_ylabel("BLEU", color=INK)
    axes.tick_params(colors=FAINT)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.legend(facecolor=GROUND, edgecolor=FAINT, labelcolor=INK, fontsize=9)
    return figure


def _scores(points: Sequence[LengthPoint], field: str) -> list[float]:
    return [100 * (getattr(point.bleu, field) or 0.0) for point in points]
