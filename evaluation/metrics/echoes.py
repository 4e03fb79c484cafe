"""Whether a caption says a noun phrase twice, joined by "and" or a preposition. Knows no models.

"a brown dog and a brown dog" is an echo, "a man in a hat next to a man" too (`models.echoes` has
the rule). A person may mean it so, of two who look alike: what people's own captions score is the
measure of how much is too much.
"""

from collections.abc import Iterable, Sequence

from evaluation.metrics.score import Score, mean_score
from models.echoes import has_echo
from models.tokenizer import tokenize

__all__ = ["ECHOES", "echo_share", "human_echoes", "is_echo"]

ECHOES = "echoes"


def is_echo(caption: str) -> bool:
    """Tell whether a caption has an echo."""
    return has_echo(tokenize(caption))


def echo_share(captions: Iterable[str]) -> Score:
    """Score the share of captions with an echo; the lower the better."""
    return mean_score(ECHOES, (float(is_echo(caption)) for caption in captions))


def human_echoes(references: Iterable[Sequence[str]]) -> Score:
    """Score people by the same measure, over all captions of all images."""
    return echo_share(text for texts in references for text in texts)
