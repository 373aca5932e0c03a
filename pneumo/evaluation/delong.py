"""DeLong's variance of the area under the ROC curve (1988), in the fast form of Sun & Xu (2014).

It takes images to be independent: with several images of a patient, prefer a bootstrap of patients.

K scores of the same N images"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from pneumo.evaluation.metrics import Array, Floats, Interval, mean_ranks


@dataclass(frozen=True)
class Difference:
    """The second model's AUROC less the first's on the same images, with its 95% interval and two-sided p."""

    value: float
    interval: Interval
    p: float


def aurocs(labels: Array, scores: Array) -> tuple[Floats, Floats]:
    """labels (N,) 0/1, scores (K, N) -> areas (K,) and their covariance (K, K); NaN with a single image of a
    class."""
    positive = np.asarray(labels) == 1
    m, n = int(positive.sum()), int((~positive).sum())
    scores = np.atleast_2d(scores).astype(float)
    ranks, own_positive, own_negative = (
        np.array([mean_ranks(row) for row in rows])
        for rows in (scores, scores[:, positive], scores[:, ~positive])
    )
    of_positives = (ranks[:, positive] - own_positive) / n  # share of negatives each positive lies above
    of_negatives = 1 - (ranks[:, ~positive] - own_negative) / m
    if min(m, n) < 2:
        return of_positives.mean(axis=1), np.full((len(scores), len(scores)), np.nan)
    covariance = np.cov(of_positives).reshape(len(scores), -1) / m
    covariance = covariance + np.cov(of_negatives).reshape(len(scores), -1) / n
    return of_positives.mean(axis=1), covariance


def interval(labels: Array, scores: Array) -> Interval:
    """95% interval of the AUROC of (N,) scores, on the logit scale, so that it stays between 0 and 1. NaN for
    an AUROC of 0 or 1, whose variance is estimated as 0."""
    (area,), ((variance,),) = aurocs(labels, scores)
    if not 0 < area < 1:
        return (np.nan, np.nan)
    half = ndtri(0.975) * np.sqrt(variance) / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-half, half]))))
    return (float(low), float(high))


def difference(labels: Array, first: Array, second: Array) -> Difference:
    """Of two models' (N,) scores of the same images."""
    areas, covariance = aurocs(labels, np.stack([first, second]))
    value = float(areas[1] - areas[0])
    deviation = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0)))
    half = float(ndtri(0.975)) * deviation
    p = float(2 * ndtr(-abs(value) / deviation)) if deviation else float(value == 0)
    return Difference(value, (value - half, value + half), p)
