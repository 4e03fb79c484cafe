"""Fits how surely an image is a photo, from the means of features: `models.calibration.PhotoProbe`.

N photos, M pictures that are none, D features.
"""

import io

import numpy as np

from evaluation.measures.logistic import fit_logistic
from evaluation.measures.no_photos import draw_no_photos
from evaluation.measures.reliability import Values
from models.calibration import PhotoProbe
from models.captioner import NetworkCaptioner
from models.preprocessing import DecodeLimits

__all__ = ["fit_photo_probe", "means_of_no_photos", "measure_photo_probe"]

_COUNT = 280
_BATCH_SIZE = 16
_FOLDS = 5
# Of the squares of the weights; features are brought to one spread first.
_PENALTY = 1.0
_DIGITS = 5


def means_of_no_photos(captioner: NetworkCaptioner) -> Values:
    """Draw pictures that are no photos, and give the means of their features (M, D)."""
    means = []
    pictures = draw_no_photos(_COUNT, seed=0)
    for start in range(0, len(pictures), _BATCH_SIZE):
        prepared = []
        for picture in pictures[start : start + _BATCH_SIZE]:
            file = io.BytesIO()
            picture.save(file, "PNG")
            prepared.append(captioner.prepare(file.getvalue(), DecodeLimits()))
        means.append(captioner.encode(prepared).means)
    return np.concatenate(means).astype(np.float64)


def fit_photo_probe(photos: Values, others: Values) -> PhotoProbe:
    """Tell photos by the means of their features (N, D) from other pictures (M, D)."""
    spread = photos.std(axis=0) + 1e-6
    center = photos.mean(axis=0)
    features = (np.concatenate([photos, others]) - center) / spread
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    labels = np.concatenate([np.ones(len(photos)), np.zeros(len(others))])
    penalties = np.full(features.shape[1], _PENALTY)
    *weights, bias = fit_logistic(features, labels, penalties)
    scaled = np.array(weights) / spread
    return PhotoProbe(
        weights=tuple(round(float(each), _DIGITS) for each in scaled),
        bias=round(bias - float(scaled @ center), _DIGITS),
    )


def measure_photo_probe(photos: Values, others: Values) -> dict[str, float]:
    """Measure a probe on pictures that it was not fitted to, in five folds.

    Gives how many there are of each, and the mean probability of each kind.
    """
    folds = [np.arange(len(each)) % _FOLDS for each in (photos, others)]
    found: list[list[float]] = [[], []]
    for left_out in range(_FOLDS):
        kept = [each[fold != left_out] for each, fold in zip((photos, others), folds, strict=True)]
        probe = fit_photo_probe(*kept)
        for kind, (each, fold) in enumerate(zip((photos, others), folds, strict=True)):
            found[kind] += [probe.probability(mean) for mean in each[fold == left_out]]
    return {
        "photos": len(photos),
        "others": len(others),
        "mean of photos": round(float(np.mean(found[0])), 4),
        "mean of others": round(float(np.mean(found[1])), 4),
    }
