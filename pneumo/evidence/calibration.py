"""Do probabilities mean what they say? Log odds and labels in, numbers out.

N images, D draws (rows of weights)"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from scipy.special import expit
from scipy.stats import rankdata

from pneumo.metrics import Array, Floats

BINS = 10
GROUPS = 256
FLAT = 1e-6  # mean P (1 - P) below which every image is as good as certain
CLOSE = 1e-6  # a move of Newton's method after which the next would be below 1e-11


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


def figures(log_odds: Array, labels: Array, weights: Floats | None = None) -> dict[str, Floats]:
    """(D,) each, of (N,) log odds and labels and weights (D, N) or None: `brier`; `ece` on BINS bins of equal
    mass in the whole sample; `slope` of the logistic regression of the label on the log odds, and `intercept`
    of the one whose slope is 1 (Cox 1958; Van Calster et al. 2019). Perfect: 0, 0, 1, 0. NaN where a class is
    absent, and a slope where nothing lies between the classes. Where there are weights, slope and intercept
    are of GROUPS groups of neighbours: they only make intervals, and differ by less than the draws do."""
    y, x = np.asarray(labels, float), np.asarray(log_odds, float)
    w = np.ones((1, len(y))) if weights is None else weights
    p = expit(x)
    bins = _groups_of(p, BINS)
    apart = np.where(bins[:, None] == np.arange(BINS), (p - y)[:, None], 0)
    sums = w @ np.column_stack([np.ones_like(p), (p - y) ** 2, apart])
    fitted = slope_and_intercept if weights is None else _of_groups
    slope, intercept = fitted(x, y, w)
    return {
        "brier": sums[:, 1] / sums[:, 0],
        "ece": np.abs(sums[:, 2:]).sum(axis=1) / sums[:, 0],  # Naeini et al. 2015
        "slope": slope,
        "intercept": intercept,
    }


def _of_groups(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """`slope_and_intercept` with each (N,) log odds replaced by its group's mean."""
    group = _groups_of(x, GROUPS)
    counts = np.bincount(group, minlength=GROUPS)
    means = np.bincount(group, x, minlength=GROUPS) / np.maximum(counts, 1)
    cells = group + GROUPS * y.astype(int), np.arange(len(x))
    grouped: Floats = (csr_array((np.ones(len(x)), cells), shape=(2 * GROUPS, len(x))) @ w.T).T
    return slope_and_intercept(np.tile(means, 2), np.repeat([0.0, 1.0], GROUPS), grouped)


def _groups_of(values: Floats, n: int) -> npt.NDArray[np.int64]:
    """(N,) 0 to n - 1, of equal size by rising value; equal values are in one."""
    place = n * (rankdata(values) - 0.5) / len(values)
    group: npt.NDArray[np.int64] = np.minimum(place.astype(np.int64), n - 1)
    return group


def slope_and_intercept(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """(D,) each: b of logit P = a + b x, and a of logit P = a + x."""
    classes = (w @ y > 0) & (w @ (1 - y) > 0)
    fitted = _newton(np.stack([np.ones_like(x), x]), np.zeros_like(x), y, w)[:, 1]
    moved = _newton(np.ones((1, len(x))), x, y, w)[:, 0]
    return np.where(classes, fitted, np.nan), np.where(classes, moved, np.nan)


def _newton(terms: Floats, offset: Floats, y: Floats, w: Floats) -> Floats:
    """(D, K) coefficients of the logistic regression on terms (K, N) beside a fixed offset (N,), for all rows
    of weights at once; from the solution for their sum. NaN where they grow without end: nothing lies between
    the classes."""
    alone = len(w) == 1
    beta = np.zeros((1, len(terms))) if alone else _newton(terms, offset, y, w.sum(axis=0, keepdims=True))
    beta = np.repeat(np.nan_to_num(beta), len(w), axis=0)
    for _ in range(50):
        p = expit(beta @ terms + offset)
        gradient = (w * (y - p)) @ terms.T
        bent = w * (p * (1 - p))
        curvature = np.stack([bent @ (terms * one).T for one in terms], axis=1)
        move = np.nan_to_num((np.linalg.pinv(curvature, hermitian=True) @ gradient[:, :, None])[:, :, 0])
        beta = beta + np.clip(move, -2, 2)
        if np.abs(move).max(initial=0) < CLOSE:
            break
    certain = bent.sum(axis=1) < FLAT * w.sum(axis=1)
    return np.where(certain[:, None], np.nan, beta)
