"""The data of one experiment, read and encoded: vocabulary, examples, dev photos. Knows of a
model its description."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.config import ModelConfig
from models.errors import ConfigError
from models.tokenizer import Vocabulary
from training.config import TrainConfig
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset
from training.data.examples import Example, make_examples
from training.data.flickr30k_entities import GroundedCaption, read_entities

__all__ = ["TrainingData", "check_same_run", "read_training_data"]

Say = Callable[[str], None]
_RUN = "run.json"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that the stages learn from and are judged on; `dev` is by the name of its set."""

    vocabulary: Vocabulary
    train: tuple[Example, ...]
    text: tuple[Example, ...]
    dev: dict[str, list[CaptionedImage]]


def read_training_data(
    config: TrainConfig, say: Say, vocabulary: Vocabulary | None = None
) -> TrainingData:
    """Read every set of `config`, tell each one's size and problems through `say`; raise DataError
    as they do.

    The words are those of the captions by their counts, or those of `vocabulary`, where a run
    starts from a model.
    """
    train = [(each, _read(each, say)) for each in config.train]
    text = [(each, _read(each, say)) for each in config.text]
    dev = {each.name: _read(each, say) for each in config.dev}
    if vocabulary is None:
        vocabulary = Vocabulary.build(
            (caption for _, photos in train for photo in photos for caption in photo.captions),
            config.min_count,
            text_only=(
                caption for _, photos in text for photo in photos for caption in photo.captions
            ),
        )
    words = vocabulary
    say(f"vocabulary: {len(words)} tokens")

    def encode(sets: list[tuple[DatasetConfig, list[CaptionedImage]]]) -> tuple[Example, ...]:
        return tuple(
            example
            for dataset, photos in sets
            for example in make_examples(
                photos,
                words,
                dataset.weight,
                config.max_length,
                dataset.name,
                grounding=_read_grounding(dataset),
            )
        )

    return TrainingData(words, encode(train), encode(text), dev)


def check_same_run(folder: Path, described: ModelConfig, vocabulary: Vocabulary) -> None:
    """Note in the run's folder which architecture and words it learns, or hold both to what is
    noted there.

    Weights mean nothing for another vocabulary, even one of the same size. Raises ConfigError where
    they differ.
    """
    now = {
        "architecture": {
            name: value
            for name, value in described.describe().items()
            if name not in ("name", "decoding", "dropout", "vocab_size")
        },
        "words": list(vocabulary.words),
    }
    path = folder / _RUN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(
            json.dumps(now, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        path.with_suffix(".new").rename(path)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [part for part, value in now.items() if before.get(part) != value]
    if changed:
        raise ConfigError(
            f"The run in {folder} was started with other {' and '.join(changed)} than the "
            "experiment and its data have "
            "now: put those back, or take another name for this experiment, or remove the folder."
        )


def _read_grounding(dataset: DatasetConfig) -> dict[str, tuple[GroundedCaption, ...]] | None:
    return None if dataset.entities is None else read_entities(dataset.root / dataset.entities)


def _read(dataset: DatasetConfig, say: Say) -> list[CaptionedImage]:
    photos, report = read_dataset(dataset)
    captions = sum(len(photo.captions) for photo in photos)
    say(
        f"{dataset.name} ({dataset.split}): {len(photos)} photos, {captions} captions, weight "
        f"{dataset.weight:g}"
    )
    if report.problems:
        say(report.summary())
    return photos
