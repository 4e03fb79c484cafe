"""Captions as the metrics take them: a text, or a list of words. Knows no scores.

A text is split into words by `evaluation.metrics.ptb_tokenizer`; a list of words is taken as it is.
"""

from collections.abc import Iterator, Sequence

from evaluation.metrics.ptb_tokenizer import tokenize_ptb

__all__ = ["ORDERS", "Ngram", "Text", "check_texts", "ngrams", "split_tokens", "split_words"]

Text = str | Sequence[str]
Ngram = tuple[str, ...]

ORDERS = 4
"""The longest n-gram that BLEU and CIDEr-D count, in words."""


def check_texts(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> None:
    """Raise ValueError unless each image has one hypothesis and at least one reference."""
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} photos with references, but {len(hypotheses)} hypotheses"
        )
    if not references or not all(references):
        raise ValueError("there must be at least one photo, and a reference for each")


def split_tokens(text: Text) -> list[str]:
    """Split a caption into tokens. One token may contain a space (`1 1/2`)."""
    return tokenize_ptb(text) if isinstance(text, str) else list(text)


def split_words(text: Text) -> list[str]:
    """Split a caption as the reference's BLEU and CIDEr-D do: tokens are also cut at spaces."""
    return " ".join(split_tokens(text)).split()


def ngrams(words: Sequence[str]) -> Iterator[Ngram]:
    """Give all n-grams of one to four words, the shortest first."""
    for order in range(1, ORDERS + 1):
        for start in range(len(words) - order + 1):
            yield tuple(words[start : start + order])
