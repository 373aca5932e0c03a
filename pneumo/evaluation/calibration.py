"""Calibration of predicted probabilities: Platt scaling, Brier score, ECE, calibration slope and intercept.

N images, D draws (rows of weights)"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit

from pneumo.evaluation.metrics import Array, Floats, mean_ranks
from pneumo.evaluation.platt import UNSCALED, PlattScaling

BINS = 10
GROUPS = 256
SLOPES = 1 / 20, 20.0  # of Platt scaling
MIN_VARIANCE = 1e-6  # mean P (1 - P) below which every image is as good as certain
CONVERGED = 1e-6  # a step of Newton's method after which the next would be below 1e-11
MAX_STEPS, MAX_HALVINGS = 200, 40


def platt_scaling(log_odds: Array, labels: Array) -> PlattScaling:
    """The logistic regression of the labels on the log odds, (N,) each (Platt 1999, "Probabilistic outputs
    for support vector machines"). As there, the labels of a positive and b negative images count as
    (a + 1) / (a + 2) and 1 / (b + 2), so that a few images do not make all others certain. The slope is kept
    within SLOPES, so that no ranking is turned round; the mean of P is the mean of these labels whatever the
    slope. Nothing is scaled where a class is absent."""
    x, is_positive = np.asarray(log_odds, float), np.asarray(labels) == 1
    positives, negatives = is_positive.sum(), (~is_positive).sum()
    if not positives or not negatives:
        return UNSCALED
    targets = np.where(is_positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    ones, centred = np.ones((1, len(x))), x - x.mean()
    slope = 1.0
    if np.ptp(x) > 0:
        terms = np.concatenate([ones, centred[None] / x.std()])
        slope = float(np.clip(_newton(terms, np.zeros_like(x), targets, ones)[0, 1] / x.std(), *SLOPES))
    at_mean = float(_newton(ones, slope * centred, targets, ones)[0, 0])
    return PlattScaling(slope, at_mean - slope * float(x.mean()))


def reliability_curve(labels: Array, p: Array) -> tuple[Array, Array]:
    """The mean P and the share of positives in each of BINS bins of equal mass; labels and P (N,). As by
    scikit-learn's calibration_curve with strategy="quantile", which takes half a second to import."""
    bins = np.searchsorted(np.quantile(p, np.arange(1, BINS) / BINS), p)
    counts = np.bincount(bins)
    there = counts > 0
    predicted, observed = (np.bincount(bins, of)[there] / counts[there] for of in (p, labels))
    return predicted, observed


def calibration_metrics(log_odds: Array, labels: Array, weights: Floats | None = None) -> dict[str, Floats]:
    """(D,) each, of (N,) log odds and labels and weights (D, N) or None: `brier`; `ece` on BINS bins of equal
    mass in the whole sample; `slope` of the logistic regression of the label on the log odds, and `intercept`
    of the one whose slope is 1 (Cox 1958; Van Calster et al. 2019). Perfect: 0, 0, 1, 0. NaN where a class is
    absent, and a slope where nothing lies between the classes. Where there are weights, slope and intercept
    are of GROUPS groups of neighbours of each class where there are more images: they only make intervals,
    and differ by less than the draws do."""
    y, x = np.asarray(labels, float), np.asarray(log_odds, float)
    w = np.ones((1, len(y))) if weights is None else weights
    p = expit(x)
    bins = _groups_of(p, BINS)
    gaps = np.where(bins[:, None] == np.arange(BINS), (p - y)[:, None], 0)
    sums = w @ np.column_stack([np.ones_like(p), (p - y) ** 2, gaps])
    fitted = slope_and_intercept if weights is None else _of_groups
    slope, intercept = fitted(x, y, w)
    return {
        "brier": sums[:, 1] / sums[:, 0],
        "ece": np.abs(sums[:, 2:]).sum(axis=1) / sums[:, 0],  # Naeini et al. 2015
        "slope": slope,
        "intercept": intercept,
    }


def _of_groups(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """`slope_and_intercept` with each (N,) log odds replaced by its group's mean, where that is fewer."""
    if len(x) <= 2 * GROUPS:
        return slope_and_intercept(x, y, w)
    shares = np.arange(1, GROUPS // 2) / (GROUPS // 2)  # where many are, and as finely where few are
    ends = np.unique([*np.quantile(x, shares), *(x.min() + shares * np.ptp(x))])
    names, group, counts = np.unique(
        np.searchsorted(ends, x) + GROUPS * y.astype(int), return_inverse=True, return_counts=True
    )
    cells = group, np.arange(len(x))
    grouped: Floats = (csr_array((np.ones(len(x)), cells), shape=(len(names), len(x))) @ w.T).T
    return slope_and_intercept(np.bincount(group, x) / counts, (names >= GROUPS).astype(float), grouped)


def _groups_of(values: Floats, n: int) -> npt.NDArray[np.int64]:
    """(N,) 0 to n - 1, of equal size by rising value; equal values are in one."""
    place = n * (mean_ranks(values) - 0.5) / len(values)
    group: npt.NDArray[np.int64] = np.minimum(place.astype(np.int64), n - 1)
    return group


def slope_and_intercept(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """(D,) each: b of logit P = a + b x, and a of logit P = a + x. The slope is fitted on standardised log
    odds, since scores that hardly vary have a steep one."""
    classes = (w @ y > 0) & (w @ (1 - y) > 0)
    fittable = classes & ~_separated(x, y, w)
    slope, intercept = np.full(len(w), np.nan), np.full(len(w), np.nan)
    if fittable.any():
        spread = x.std()
        terms = np.stack([np.ones_like(x), (x - x.mean()) / spread])
        slope[fittable] = _newton(terms, np.zeros_like(x), y, w[fittable])[:, 1] / spread
    if classes.any():
        stepped = _newton(np.ones((1, len(x))), x, y, w[classes])
        p = expit(stepped + x)
        certain = (w[classes] * p * (1 - p)).sum(axis=1) < MIN_VARIANCE * w[classes].sum(axis=1)
        intercept[classes] = np.where(certain, np.nan, stepped[:, 0])
    return slope, intercept


def _separated(x: Floats, y: Floats, w: Floats) -> npt.NDArray[np.bool_]:
    """(D,) whether a threshold has one class on either side of it, scores on the threshold in any, so that
    the slope of a logistic regression grows without end (Albert and Anderson 1984)."""

    def ends(label: int) -> tuple[Floats, Floats]:
        there = (w > 0) & (y == label)
        return np.where(there, x, np.inf).min(axis=1), np.where(there, x, -np.inf).max(axis=1)

    (lowest_negative, highest_negative), (lowest_positive, highest_positive) = ends(0), ends(1)
    gaps: npt.NDArray[np.bool_] = (highest_negative <= lowest_positive) | (
        highest_positive <= lowest_negative
    )
    return gaps


def _newton(terms: Floats, offset: Floats, y: Floats, w: Floats) -> Floats:
    """(D, K) coefficients of the logistic regression on terms (K, N) beside a fixed offset (N,), for all rows
    of weights at once; from the solution for their sum. A step that would raise the log loss is halved."""

    def log_loss(beta: Floats, w: Floats) -> Floats:
        log_odds = beta @ terms + offset
        losses: Floats = (w * (np.logaddexp(0, log_odds) - y * log_odds)).sum(axis=1)
        return losses

    single = len(w) == 1
    beta = np.zeros((1, len(terms))) if single else _newton(terms, offset, y, w.sum(axis=0, keepdims=True))
    beta = np.repeat(beta, len(w), axis=0)
    loss = log_loss(beta, w)
    active = np.arange(len(w))  # the others have arrived
    for _ in range(MAX_STEPS):
        start, own = beta[active], w[active]
        p = expit(start @ terms + offset)
        gradient = (own * (y - p)) @ terms.T
        curved = own * (p * (1 - p))
        curvature = np.stack([curved @ (terms * one).T for one in terms], axis=1)
        step = np.nan_to_num((np.linalg.pinv(curvature, hermitian=True) @ gradient[:, :, None])[:, :, 0])
        step = np.clip(step, -2, 2)
        stepped = log_loss(start + step, own)
        worse = np.flatnonzero(stepped > loss[active] * (1 + 1e-12))
        for _ in range(MAX_HALVINGS):
            if not len(worse):
                break
            step[worse] /= 2
            stepped[worse] = log_loss(start[worse] + step[worse], own[worse])
            worse = worse[stepped[worse] > loss[active][worse] * (1 + 1e-12)]
        beta[active], loss[active] = start + step, stepped
        active = active[np.abs(step).max(axis=1) >= CONVERGED]
        if not len(active):
            break
    return beta
