"""The best captions of an image as a tree: where they say the same they share a branch.

As text and as a figure. It shows the captions that beam search kept to the end. Those that it gave
up on the way are in no answer, and so not in the tree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.style import FAINT, GLOW, INK, bare, new_figure
from models.caption import Caption, Word

__all__ = ["Branch", "beam_figure", "beam_text", "beam_tree"]

_STEP_INCHES = 0.86
_LEAF_INCHES = 0.36


@dataclass(frozen=True, slots=True)
class Branch:
    """A word, and the words that follow it in some caption.

    text: empty at the root. probability: of the word, given the image and the words before it.
    ranks: of the captions that go through here, 1 for the best. is_end: whether one ends here.
    """

    text: str
    probability: float
    ranks: tuple[int, ...]
    is_end: bool
    followers: tuple["Branch", ...]


def beam_tree(caption: Caption) -> Branch:
    """Join the hypotheses of an answer to a tree; the branch of the best caption comes first."""
    ranked = [(rank, found.words) for rank, found in enumerate(caption.hypotheses, 1)]
    return _grow("", 1.0, ranked)


def _grow(text: str, probability: float, rest: Sequence[tuple[int, Sequence[Word]]]) -> Branch:
    """Make a branch. rest: the ranks that go through it, and the words that each has after it."""
    groups: dict[str, list[tuple[int, Sequence[Word]]]] = {}
    for rank, words in rest:
        if words:
            groups.setdefault(words[0].text, []).append((rank, words))
    followers = tuple(
        _grow(first, group[0][1][0].probability, [(rank, words[1:]) for rank, words in group])
        for first, group in groups.items()
    )
    ranks = tuple(rank for rank, _ in rest)
    return Branch(text, probability, ranks, any(not words for _, words in rest), followers)


def beam_text(tree: Branch) -> str:
    """Write the tree in lines; a number in brackets is the rank of a caption that ends there."""
    return "\n".join(line for branch in tree.followers for line in _lines(branch))


def _lines(branch: Branch) -> list[str]:
    """Write a branch: words that nothing parts stand on one line."""
    words = [_label(branch)]
    while len(branch.followers) == 1 and not branch.is_end:
        (branch,) = branch.followers
        words.append(_label(branch))
    lines = [" ".join(words)]
    for number, follower in enumerate(branch.followers, 1):
        is_last = number == len(branch.followers)
        first, *others = _lines(follower)
        lines.append(("└─ " if is_last else "├─ ") + first)
        lines += [("   " if is_last else "│  ") + line for line in others]
    return lines


def _label(branch: Branch) -> str:
    """Give the word, and the rank of the caption that ends with it."""
    return f"{branch.text} [{_end_rank(branch)}]" if branch.is_end else branch.text


def _end_rank(branch: Branch) -> int:
    """Give the rank of the caption that ends here: the one that no follower has."""
    after = {rank for follower in branch.followers for rank in follower.ranks}
    return next(rank for rank in branch.ranks if rank not in after)


def beam_figure(tree: Branch) -> Figure:
    """Draw the tree from left to right; a line is as thick as its word is probable.

    The best caption glows. A number in brackets is the rank of a caption that ends there.
    """
    depth = _depth(tree)
    rows = _rows(tree)
    figure = new_figure((depth + 1) * _STEP_INCHES, (rows + 0.6) * _LEAF_INCHES)
    axes = bare(figure.add_subplot())
    for _ in _draw(axes, tree, 0, iter(range(rows))):
        pass
    axes.set_xlim(0.2, depth + 0.8)
    axes.set_ylim(rows - 0.4, -0.6)
    return figure


def _depth(branch: Branch) -> int:
    """Count the words of the longest caption through a branch."""
    return max((1 + _depth(follower) for follower in branch.followers), default=0)


def _rows(branch: Branch) -> int:
    """Count the captions through a branch that no longer one begins with."""
    return sum(map(_rows, branch.followers)) or 1


def _draw(axes: Axes, branch: Branch, column: int, free_rows: Iterator[int]) -> Iterator[float]:
    """Draw what follows a branch, and give the row of each follower.

    A caption that goes on beyond an end needs no row of its own for it.
    """
    for follower in branch.followers:
        rows = list(_draw(axes, follower, column + 1, free_rows))
        row = rows[0] if rows else float(next(free_rows))
        color = GLOW if 1 in follower.ranks else INK
        for below, later in zip(rows, follower.followers, strict=True):
            axes.plot(
                [column + 1, column + 2],
                [row, below],
                color=GLOW if 1 in later.ranks else FAINT,
                linewidth=0.6 + 4 * later.probability,
                alpha=0.55,
                zorder=1,
            )
        ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 2}
        label = _label(follower)
        axes.text(column + 1, row, label, color=color, ha="center", va="center", bbox=ground)
        yield row
