"""Fit bundles' confidences to what people say of the dev images, and measure them on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from evaluation.captioning import (
    Advance,
    CachedEncoder,
    Encode,
    group_by_encoding,
    image_encoder,
)
from evaluation.jobs.bundles import Messages, find_bundles, load_all, read_images, read_names
from evaluation.measures.calibration import Calibrated, calibrate, save_calibration
from evaluation.measures.photo_probe import means_of_no_photos
from evaluation.measures.usage import CaptionUsage, caption_with_usage
from evaluation.report.calibration_text import describe_calibration
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.runtime.torch import Precision
from training.config import load_config
from training.data.datasets import CaptionedImage

__all__ = ["CalibrateRequest", "calibrate_bundles"]

Sets = Mapping[str, Sequence[CaptionedImage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateRequest:
    """Which bundles to calibrate, by which experiment.

    models: names with commas between; else the experiment's own bundle.
    """

    experiment: Path
    data_folder: Path
    weights_folder: Path
    models: str | None = None
    precision: Precision = "auto"


def calibrate_bundles(request: CalibrateRequest, messages: Messages) -> None:
    """Write each bundle's calibration, its errors and its curve, and say what it is worth.

    Captioners of one encoding encode each image once. Raises GlimpseError where a bundle or the
    data cannot be used, and for an experiment without a test set.
    """
    config = load_config(request.experiment, request.data_folder)
    folders = find_bundles(request.weights_folder)
    names = [config.name]
    if request.models is not None:
        names = read_names(request.models, folders)
    captioners = load_all(
        dict.fromkeys(names, request.weights_folder), names, precision=request.precision
    )
    dev = read_images(config.dev, messages)
    test = read_images(config.test, messages)
    if not test:
        raise ConfigError(
            f"{request.experiment} names no test set: what a calibration is worth can only be "
            "measured on one."
        )
    images = sum(map(len, (*dev.values(), *test.values())))
    with tqdm(total=images * len(captioners), desc="captions", unit="photo") as bar:
        for group in group_by_encoding(captioners):
            encode = CachedEncoder(image_encoder(group[0]))
            no_photos = means_of_no_photos(group[0])
            for captioner in group:
                usages = partial(_usages, captioner, encode, bar.update)
                calibrated = calibrate(usages(dev), usages(test), no_photos)
                _save(request.weights_folder, captioner, calibrated, messages)


def _usages(
    captioner: NetworkCaptioner, encode: Encode, advance: Advance, sets: Sets
) -> dict[str, list[CaptionUsage]]:
    return {
        name: caption_with_usage(captioner, images, advance, encode)
        for name, images in sets.items()
    }


def _save(
    weights_folder: Path, captioner: NetworkCaptioner, calibrated: Calibrated, messages: Messages
) -> None:
    folder = weights_folder / captioner.info.name
    save_calibration(folder, captioner.info, calibrated)
    messages.say(
        f"{describe_calibration(calibrated.metrics)}\n\n"
        f"wrote {folder}: config.json, metrics.json, reliability.svg"
    )
