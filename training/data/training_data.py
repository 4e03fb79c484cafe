"""All that a run learns from: its sets, its vocabulary, and its captions as ids.

Knows no model and no experiment.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from models.tokenizer import Vocabulary
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset
from training.data.examples import Example, make_examples
from training.data.flickr30k_entities import GroundedCaption, read_entities

__all__ = ["TrainingData", "read_training_data"]

Say = Callable[[str], None]
Read = tuple[DatasetConfig, list[CaptionedImage]]  # a set and its images


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What the stages learn from, and what they are validated on: `dev` by the name of its set."""

    vocabulary: Vocabulary
    train: tuple[Example, ...]
    text: tuple[Example, ...]
    dev: dict[str, list[CaptionedImage]]


def read_training_data(
    *,
    train: Sequence[DatasetConfig],
    text: Sequence[DatasetConfig],
    dev: Sequence[DatasetConfig],
    min_count: int,
    max_length: int,
    say: Say,
    vocabulary: Vocabulary | None = None,
) -> TrainingData:
    """Read every set, and report each one's size and problems through `say`.

    vocabulary: that of the bundle that a run starts from; else it is built of the captions' words
        that occur `min_count` times.
    max_length: longer captions are cut to so many words.
    Raises DataError where a set cannot be used.
    """
    read_train = [(dataset, _read(dataset, say)) for dataset in train]
    read_text = [(dataset, _read(dataset, say)) for dataset in text]
    read_dev = {dataset.name: _read(dataset, say) for dataset in dev}
    if vocabulary is None:
        vocabulary = Vocabulary.build(
            _captions(read_train), min_count, text_only=_captions(read_text)
        )
    say(f"vocabulary: {len(vocabulary)} tokens")
    return TrainingData(
        vocabulary,
        train=_encode(read_train, vocabulary, max_length),
        text=_encode(read_text, vocabulary, max_length),
        dev=read_dev,
    )


def _captions(sets: Sequence[Read]) -> Iterator[str]:
    for _, images in sets:
        for image in images:
            yield from image.captions


def _encode(sets: Sequence[Read], vocabulary: Vocabulary, max_length: int) -> tuple[Example, ...]:
    examples: list[Example] = []
    for dataset, images in sets:
        examples += make_examples(
            images,
            vocabulary,
            dataset.weight,
            max_length,
            dataset.name,
            grounding=_read_grounding(dataset),
        )
    return tuple(examples)


def _read_grounding(dataset: DatasetConfig) -> dict[str, tuple[GroundedCaption, ...]] | None:
    return None if dataset.entities is None else read_entities(dataset.root / dataset.entities)


def _read(dataset: DatasetConfig, say: Say) -> list[CaptionedImage]:
    images, report = read_dataset(dataset)
    captions = sum(len(image.captions) for image in images)
    say(
        f"{dataset.name} ({dataset.split}): {len(images)} photos, {captions} captions, weight "
        f"{dataset.weight:g}"
    )
    if report.problems:
        say(report.summary())
    return images
