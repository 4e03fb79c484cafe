"""Confidence that means something: fitted to what people say of the dev images, measured on test.

docs/adr/0006 says why. Knows how a bundle's calibration is made, and no training.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from evaluation.measures.calibration_forms import FORMS, compare_forms
from evaluation.measures.photo_probe import fit_photo_probe, measure_photo_probe
from evaluation.measures.reliability import BINS, Values, draw_curves, measure, reliability
from evaluation.measures.usage import CaptionUsage
from models.bundles.reading import add_metrics
from models.calibration import FUNCTION_WORDS, CalibrationConfig, caption_confidence
from models.caption import ModelInfo

__all__ = ["Calibrated", "calibrate", "save_calibration"]

Usages = Mapping[str, Sequence[CaptionUsage]]
Columns = tuple[Values, Values, Values]
"""Confidences before and after, and what people did: (N,) each."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration that dev chose.

    metrics: what was measured, ready for JSON. curve: on test, as an SVG.
    """

    calibration: CalibrationConfig
    metrics: dict[str, Any]
    curve: str


def calibrate(dev: Usages, test: Usages, no_photos: Values | None = None) -> Calibrated:
    """Fit each of FORMS to the dev sets, take the best of them, and measure it on the test sets.

    The best has the lowest log-loss on dev images that it was not fitted to; every image counts the
    same. Sets are given by their names.
    no_photos: (M, D), the means of the features of pictures that are no photos; with them every
    confidence is also multiplied with how surely an image is a photo.
    """
    known = _join(dev)
    forms = compare_forms(known)
    chosen = min(forms, key=lambda name: forms[name]["log-loss"])
    calibration = FORMS[chosen](known)
    photo: dict[str, Any] = {}
    if no_photos is not None:
        means = np.stack([each.mean for each in known]).astype(np.float64)
        probe = fit_photo_probe(means, no_photos)
        calibration = calibration.model_copy(update={"photo": probe})
        photo = {"photo": measure_photo_probe(means, no_photos)}
    metrics = {
        "form": chosen,
        "fitted": {name: len(usages) for name, usages in dev.items()},
        "forms": forms,
        "bins": BINS,
        **photo,
        "sets": {
            name: {"photos": len(usages), **_measure(usages, calibration)}
            for name, usages in test.items()
        },
    }
    panels = {
        title: {"before": reliability(before, usage), "after": reliability(after, usage)}
        for title, (before, after, usage) in _outcomes(_join(test), calibration).items()
        if title != "content words"
    }
    return Calibrated(calibration, metrics, draw_curves(panels))


def save_calibration(folder: Path, info: ModelInfo, calibrated: Calibrated) -> None:
    """Write a calibration into the bundle that `info` describes.

    It changes config.json, metrics.json, SHA256SUMS and the curve.

    All is written beside the bundle's files and put in their place at the end: a kill before that
    changes nothing.
    """
    config = info.config.model_copy(update={"calibration": calibrated.calibration})
    with TemporaryDirectory(prefix=".calibration-", dir=folder) as temporary:
        whole = Path(temporary)
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, whole)
        (whole / "config.json").write_text(
            config.model_dump_json(indent=2) + "\n", encoding="utf-8"
        )
        (whole / "reliability.svg").write_text(calibrated.curve, encoding="utf-8")
        add_metrics(whole, {"calibration": calibrated.metrics})
        for name in ("reliability.svg", "config.json", "metrics.json", "SHA256SUMS"):
            (whole / name).replace(folder / name)


def _join(sets: Usages) -> list[CaptionUsage]:
    joined: list[CaptionUsage] = []
    for usages in sets.values():
        joined += usages
    return joined


def _measure(usages: Sequence[CaptionUsage], calibration: CalibrationConfig) -> dict[str, Any]:
    return {
        title: {
            "count": len(usage),
            "before": measure(before, usage),
            "after": measure(after, usage),
        }
        for title, (before, after, usage) in _outcomes(usages, calibration).items()
    }


def _outcomes(usages: Sequence[CaptionUsage], calibration: CalibrationConfig) -> dict[str, Columns]:
    """Give the columns of words, of content words, and of captions; those that there are."""
    words: list[tuple[float, float, float]] = []
    content: list[tuple[float, float, float]] = []
    captions: list[tuple[float, float, float]] = []
    for each in usages:
        after = each.confidences(calibration)
        rows = list(zip(each.probabilities, after, each.usage, strict=True))
        words += rows
        for word, row in zip(each.words, rows, strict=True):
            if word not in FUNCTION_WORDS:
                content.append(row)
        expected = caption_confidence(zip(each.words, after, strict=True))
        said = caption_confidence(zip(each.words, each.usage, strict=True))
        captions.append((each.geometric_mean, expected, said))
    tables = {"words": words, "content words": content, "captions": captions}
    return {title: _columns(rows) for title, rows in tables.items() if rows}


def _columns(rows: Sequence[tuple[float, float, float]]) -> Columns:
    before, after, usage = np.array(rows).T
    return before, after, usage
