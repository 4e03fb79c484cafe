"""Logistic regression with a ridge, by Newton's method. Knows no captions."""

import numpy as np

from evaluation.measures.reliability import Values

__all__ = ["fit_logistic"]

_NEWTON_STEPS = 25
_SMALL_STEP = 1e-8


def fit_logistic(features: Values, fractions: Values, penalties: Values) -> list[float]:
    """Fit a logistic regression of fractions (N,) on features (N, F) by Newton's method.

    penalties (F,): of a ridge.
    """
    weights = np.zeros(features.shape[1])
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (fractions - expected) - penalties * weights
        curvature = (features.T * (expected * (1 - expected))) @ features + np.diag(penalties)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return [float(weight) for weight in weights]
