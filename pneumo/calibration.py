"""Do probabilities mean what they say? Log odds and labels in, numbers out.

N images, D draws (rows of weights)"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata

from pneumo.metrics import Array, Floats

BINS = 10
CLOSE = 1e-4  # a move of Newton's method after which the next would be below 1e-7


def temperature(log_odds: Array, labels: Array) -> float:
    """The T of which sigmoid(log_odds / T) has the least log loss on these (N,) images (Guo et al. 2017, "On
    calibration of modern neural networks"); between 1/20 and 20."""
    signed = np.where(np.asarray(labels) == 1, log_odds, -np.asarray(log_odds))
    found = minimize_scalar(
        lambda log_t: np.logaddexp(0, -signed / np.exp(log_t)).mean(),
        bounds=(-np.log(20), np.log(20)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x))


def figures(log_odds: Array, labels: Array, weights: Floats | None = None) -> Mapping[str, Floats]:
    """(D,) each, of (N,) log odds and labels and weights (D, N) or None: `brier`; `ece` on BINS bins of equal
    mass in the whole sample; `slope` of the logistic regression of the label on the log odds, and `intercept`
    of the one whose slope is 1 (Cox 1958; Van Calster et al. 2019). Perfect: 0, 0, 1, 0. NaN where a class is
    absent."""
    y, x = np.asarray(labels, float), np.asarray(log_odds, float)
    w = np.ones((1, len(y))) if weights is None else weights
    total = w.sum(axis=1)
    p = expit(x)
    slope, intercept = slope_and_intercept(x, y, w)
    return {
        "brier": w @ (p - y) ** 2 / total,
        "ece": _ece(p, y, w) / total,
        "slope": slope,
        "intercept": intercept,
    }


def slope_and_intercept(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """(D,) each: b of logit P = a + b x, and a of logit P = a + x."""
    classes = (w @ y > 0) & (w @ (1 - y) > 0)
    fitted = _newton(np.stack([np.ones_like(x), x]), np.zeros_like(x), y, w)[:, 1]
    moved = _newton(np.ones((1, len(x))), x, y, w)[:, 0]
    return np.where(classes, fitted, np.nan), np.where(classes, moved, np.nan)


def _newton(terms: Floats, offset: Floats, y: Floats, w: Floats) -> Floats:
    """(D, K) coefficients of the logistic regression on terms (K, N) beside a fixed offset (N,), for all rows
    of weights at once. They begin at the whole sample's, where one P serves all of them."""
    beta = np.zeros((1, len(terms)))
    for _ in range(50):
        beta, moved = _step(beta, terms, offset, y, np.ones((1, len(y))))
        if moved < 1e-12:
            break
    beta = np.repeat(beta, len(w), axis=0)
    for _ in range(8):
        beta, moved = _step(beta, terms, offset, y, w)
        if moved < CLOSE:
            break
    return beta


def _step(beta: Floats, terms: Floats, offset: Floats, y: Floats, w: Floats) -> tuple[Floats, float]:
    """The coefficients after a step of Newton's method, and the largest move."""
    shared = len(beta) > 1 and bool((beta == beta[0]).all())
    p = expit((beta[:1] if shared else beta) @ terms + offset)
    if shared:
        gradient = w @ ((y - p) * terms).T
        curvature = np.stack([w @ (p * (1 - p) * terms * one).T for one in terms], axis=1)
    else:
        gradient = (w * (y - p)) @ terms.T
        bent = w * (p * (1 - p))
        curvature = np.stack([bent @ (terms * one).T for one in terms], axis=1)
    move = np.nan_to_num((np.linalg.pinv(curvature, hermitian=True) @ gradient[:, :, None])[:, :, 0])
    return beta + np.clip(move, -5, 5), float(np.abs(move).max(initial=0))


def _ece(p: Floats, y: Floats, w: Floats) -> Floats:
    """(D,) sum over the bins of |sum of weighted (p - y)| (Naeini et al. 2015, with bins of equal mass; equal
    probabilities are in one)."""
    bins = np.minimum((BINS * (rankdata(p) - 0.5) / len(p)).astype(int), BINS - 1)
    apart = np.stack([w @ np.where(bins == one, p - y, 0) for one in range(BINS)])
    total: Floats = np.abs(apart).sum(axis=0)
    return total
