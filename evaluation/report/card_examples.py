"""Captions of example images for the default model's card, each with what a person says of it.

The verdicts of people are kept in docs/verdicts.json, by the caption. Knows no scores.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from evaluation.captioning import caption_images
from evaluation.report.catalog import read_catalog
from evaluation.report.maps_page import EVERY
from evaluation.report.markdown import text_table
from models.captioner import NetworkCaptioner
from training.config import load_config
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset

__all__ = ["CardExamples", "caption_examples", "read_verdicts", "write_verdicts"]


class CardExamples:
    """Images and their captions, as they come.

    examples: images that may be shown. chosen: test images, chosen unseen from `dataset`.
    """

    def __init__(
        self,
        examples: Mapping[str, str],
        chosen: Mapping[CaptionedImage, str],
        dataset: DatasetConfig,
    ) -> None:
        self._examples = examples
        self._chosen = chosen
        self._dataset = dataset

    def verdicts(self, known: Mapping[str, str]) -> dict[str, str]:
        """Give an empty place for each caption without a verdict, and keep the known verdicts."""
        captions = [*self._examples.values(), *self._chosen.values()]
        written = {caption: verdict for caption, verdict in known.items() if verdict}
        return dict.fromkeys(captions, "") | written

    def describe(self, verdicts: Mapping[str, str]) -> str:
        """Write two tables: the examples, and the chosen test images, each with its verdict."""
        names = read_catalog().project.examples
        first = [
            [names[name], caption, verdicts[caption]] for name, caption in self._examples.items()
        ]
        second = [
            [image.key, caption, image.captions[0], verdicts[caption]]
            for image, caption in self._chosen.items()
        ]
        return "\n\n".join(
            [
                "Captions as they come, the failures among them. Photos of scikit-image:",
                text_table(["photo", "caption", ""], first),
                f"Photos of {self._dataset.name} {self._dataset.split}, every {EVERY}th of the "
                "list from the first on, chosen unseen:",
                text_table(["photo", "caption", "a person said", ""], second),
            ]
        )


def caption_examples(
    captioner: NetworkCaptioner, images_folder: Path, configs: Path, data_folder: Path
) -> CardExamples:
    """Caption the project's examples, and every hundredth image of the test set of `base`.

    Raises DataError where an image or the set cannot be read.
    """
    examples = [
        CaptionedImage(name, images_folder / f"{name}.jpg", ())
        for name in read_catalog().project.examples
    ]
    (test, *_) = load_config(configs / "base.toml", data_folder).test
    images, _ = read_dataset(test)
    chosen = images[::EVERY]
    options = captioner.info.config.decoding
    captions = caption_images(captioner, [*examples, *chosen], options)
    own = captions[: len(examples)]
    others = captions[len(examples) :]
    return CardExamples(
        {image.key: caption for image, caption in zip(examples, own, strict=True)},
        dict(zip(chosen, others, strict=True)),
        test,
    )


def read_verdicts(path: Path) -> dict[str, str]:
    """Read what a person says of captions, by the caption; {} where there is no file."""
    if not path.is_file():
        return {}
    verdicts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return verdicts


def write_verdicts(path: Path, verdicts: Mapping[str, str]) -> None:
    """Write verdicts where a person can fill in the empty ones."""
    text = json.dumps(verdicts, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
