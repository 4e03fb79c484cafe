"""How many layers make a network about as large as another. Knows no library."""

__all__ = ["nearest_layers"]

_MOST_LAYERS = 48


def nearest_layers(parameters: int, base: int, each: int) -> int:
    """Choose how many layers bring a network nearest to a number of parameters.

    base: what it has without layers. each: what one layer adds. At least one layer.
    """
    return min(max(round((parameters - base) / each), 1), _MOST_LAYERS)
