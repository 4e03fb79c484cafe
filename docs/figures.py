"""Draw the pictures of "How it works" from what the shipped model really answers.

Run it after weights change:

    .venv/bin/python -m docs.figures

It writes docs/images/how-*.jpg. Each file says in its comment of which weights it is.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from evaluation.figures.attention import attention_figure
from evaluation.figures.beams import beam_figure, beam_tree
from evaluation.figures.style import FAINT, GLOW, GROUND, INK, bare, new_figure
from models.bundles.registry import load_model
from models.bundles.shared_tensors import SharedTensors
from models.caption import Caption, Word
from models.captioner import NetworkCaptioner
from models.loading import build_captioner
from models.preprocessing import DecodeLimits, PreparedImage
from models.rendering import upsample_alpha
from models.tokenizer import Vocabulary

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
MODEL = "glimpse"
SCENE = "cat"
_SHOWN_WORDS = 8
_ROWS = 64  # captions scored at a time
_RANKS = 5


class Scene:
    """A photo, and what the shipped model says of it. Loaded once for all pictures."""

    def __init__(self, name: str) -> None:
        """Caption docs/images/`name`.jpg."""
        checkpoint = load_model(ROOT / "weights", MODEL, SharedTensors())
        self.vocabulary: Vocabulary = checkpoint.vocabulary
        self.captioner: NetworkCaptioner = build_captioner(checkpoint, precision="float32")
        data = (IMAGES / f"{name}.jpg").read_bytes()
        self.photo = Image.open(BytesIO(data)).convert("RGB")
        self.prepared: PreparedImage = self.captioner.prepare(data, DecodeLimits())
        self.caption = self.ask(1)

    def ask(self, count: int) -> Caption:
        """Give the `count` best captions."""
        options = self.captioner.info.config.decoding
        asked = options.model_copy(update={"beam_size": max(5, count), "num_captions": count})
        return self.captioner.caption([self.prepared], asked)[0]


def draw_grid(scene: Scene) -> Figure:
    """Draw the photo, what the network reads of it, and the places that it can look at."""
    figure = new_figure(10.2, 2.9)
    places = figure.subplots(1, 3, width_ratios=[1.5, 1.0, 1.5])
    titles = ("the photo", "what the network reads", "the places it can look at")
    photo = np.asarray(scene.photo)  # (H, W, 3)
    pixels = np.moveaxis(scene.prepared.pixels, 0, -1)  # (S, S, 3)
    for axes, image, title in zip(places, (photo, pixels, photo), titles, strict=True):
        bare(axes).imshow(image)
        axes.set_title(title, color=INK, fontsize=11)
    _draw_cells(places[2], scene)
    return figure


def _draw_cells(axes: Axes, scene: Scene) -> None:
    """Draw the borders of the cells on the photo."""
    rows, columns, _ = scene.captioner.grid
    left, top, right, bottom = scene.captioner.grid.in_pixels(*scene.photo.size)
    width, height = (right - left) / columns, (bottom - top) / rows
    for row in range(rows):
        for column in range(columns):
            corner = (left + column * width, top + row * height)
            axes.add_patch(
                Rectangle(corner, width, height, fill=False, edgecolor=GLOW, linewidth=0.6)
            )


def draw_step(scene: Scene) -> Figure:
    """Draw the choice of the last word: where the model looked, and what it could have said."""
    words = scene.caption.best.words
    figure = new_figure(9.6, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    before = " ".join(word.text for word in words[:-1])
    _draw_heat(left, scene.photo, words[-1], scene)
    left.set_title(f"after “{before}” …", color=INK, fontsize=11)
    candidates = next_words(scene, len(words) - 1)[:_SHOWN_WORDS]
    right.set_facecolor(GROUND)
    names = [word for word, _ in candidates]
    shares = [probability for _, probability in candidates]
    right.barh(names, shares, color=[GLOW, *["#5b6270"] * (len(names) - 1)])
    right.invert_yaxis()
    right.tick_params(colors=INK, length=0)
    right.set_xticks([])
    right.spines[:].set_visible(False)
    right.set_title("… the next word could be", color=INK, fontsize=11)
    for row, share in enumerate(shares):
        right.text(share + 0.01, row, f"{share:.1%}", color=FAINT, va="center", fontsize=9)
    right.set_xlim(0, max(shares) * 1.25)
    return figure


def _draw_heat(axes: Axes, photo: Image.Image, word: Word, scene: Scene) -> None:
    """Draw a word's map as light on the photo."""
    heat = upsample_alpha(word.alpha, photo.size, scene.captioner.grid.box)
    bare(axes).imshow(photo.convert("L"), cmap="gray")
    axes.imshow(heat, cmap="inferno", alpha=0.55)


def next_words(scene: Scene, position: int) -> list[tuple[str, float]]:
    """Score every word of the vocabulary at a position of the best caption, the likeliest first."""
    words = [word.text for word in scene.caption.best.words[:position]]
    prefix = scene.captioner.token_ids(words)
    features = scene.captioner.encode([scene.prepared])
    scored: list[tuple[str, float]] = []
    ids = range(len(scene.vocabulary.specials), len(scene.vocabulary))
    for first in range(0, len(ids), _ROWS):
        some = ids[first : first + _ROWS]
        (scores,) = scene.captioner.score_tokens(features, [[[*prefix, each] for each in some]])
        for each, score in zip(some, scores, strict=True):
            scored.append((scene.vocabulary.tokens[each], float(np.exp(score.logprobs[-1]))))
    return sorted(scored, key=lambda pair: -pair[1])


def draw_gate(scene: Scene) -> Figure:
    """Draw how far the gate lets the image through, word by word."""
    words = scene.caption.best.words
    figure = new_figure(9.6, 2.4)
    axes = figure.add_subplot()
    axes.set_facecolor(GROUND)
    axes.bar(range(len(words)), [word.beta for word in words], color=GLOW, width=0.55)
    axes.set_xticks(range(len(words)), [word.text for word in words])
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("β, how much of what it sees counts for the word", color=INK, fontsize=11)
    for column, word in enumerate(words):
        axes.text(
            column, word.beta + 0.03, f"{word.beta:.2f}", color=FAINT, ha="center", fontsize=9
        )
    return figure


def draw_words(scene: Scene) -> Figure:
    """Draw the figure of the paper."""
    return attention_figure(scene.photo, scene.caption)


def draw_beams(scene: Scene) -> Figure:
    """Draw the best captions as a tree."""
    return beam_figure(beam_tree(scene.ask(_RANKS)))


PICTURES: dict[str, Callable[[Scene], Figure]] = {
    "how-grid.jpg": draw_grid,
    "how-words.jpg": draw_words,
    "how-step.jpg": draw_step,
    "how-gate.jpg": draw_gate,
    "how-beams.jpg": draw_beams,
}


def save(figure: Figure, path: Path, digest: str) -> None:
    """Write a figure as JPEG, with the digest of the weights as its comment."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor=GROUND, dpi=144)
    image = Image.open(buffer).convert("RGB")
    image.save(path, quality=86, optimize=True, comment=digest)


def main(folder: Path = IMAGES) -> None:
    """Write every picture into a folder."""
    torch.set_num_threads(1)
    scene = Scene(SCENE)
    for name, draw in PICTURES.items():
        save(draw(scene), folder / name, scene.captioner.info.digest)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
