"""ROUGE-L (Lin 2004), equal to pycocoevalcap's. Knows no images and no models.

Values lie in [0, 1].
"""

from collections.abc import Sequence

from evaluation.metrics.score import Score, mean_score
from evaluation.metrics.texts import Text, check_texts, split_tokens

__all__ = ["rouge_l"]

_BETA = 1.2


def rouge_l(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score:
    """Score the F-measure, beta 1.2, of the best precision and the best recall over references."""
    check_texts(references, hypotheses)
    return mean_score("ROUGE-L", map(_f_measure, references, hypotheses))


def _f_measure(references: Sequence[Text], hypothesis: Text) -> float:
    # As in the reference implementation, no words are one empty word.
    words = split_tokens(hypothesis) or [""]
    others = [split_tokens(reference) or [""] for reference in references]
    common = [_longest_common_subsequence(words, other) for other in others]
    precision = max(common) / len(words)
    recall = max(length / len(other) for length, other in zip(common, others, strict=True))
    if precision == 0.0 or recall == 0.0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    previous = [0] * (len(second) + 1)
    for word in first:
        current = [0]
        for column, other in enumerate(second):
            if word == other:
                current.append(previous[column] + 1)
            else:
                current.append(max(previous[column + 1], current[column]))
        previous = current
    return previous[-1]
