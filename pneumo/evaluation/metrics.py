"""Metrics of binary predictions and their bootstrap intervals: arrays in, numbers out.

Every metric is computed from one pair of tables: how many positives (`tp`) and negatives (`fp`) score at
least each distinct score, from the highest down. Rows of weights give a bootstrap of all in one pass.

N images, D draws (1 without a bootstrap), T distinct scores."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

LEVELS = (80, 90, 95)  # percent, of sensitivity and specificity
PREVALENCES = (1, 5, 22)  # percent: screening, an emergency department, SIIM-ACR
FEW_PATIENTS = 10  # of one class: an interval over so few says little
FEWEST_PATIENTS = 5  # of one class: fewer give no interval, since resampling them hardly changes anything


@dataclass(frozen=True)
class Ranking:
    """`tp`, `fp` (D, T): weighted positives and negatives at or above each of `thresholds` (T,), falling."""

    tp: Floats
    fp: Floats
    thresholds: Floats

    @classmethod
    def of(cls, labels: Array, scores: Array, weights: Floats | None = None) -> "Ranking":
        """labels (N,) 0/1, scores (N,), weights (D, N) or None. Equal scores are one threshold."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order].astype(float)
        last_of_each = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
        weights = np.ones((1, len(labels))) if weights is None else weights
        ranked_weights = weights[:, order]
        total = ranked_weights.cumsum(axis=1)[:, last_of_each]
        tp = (ranked_weights * labels[order]).cumsum(axis=1)[:, last_of_each]
        return cls(tp, total - tp, ranked[last_of_each])

    @property
    def positives(self) -> Floats:
        return self.tp[:, -1:]

    @property
    def negatives(self) -> Floats:
        return self.fp[:, -1:]

    @property
    def has_both_classes(self) -> npt.NDArray[np.bool_]:
        """(D,)"""
        both: npt.NDArray[np.bool_] = (self.positives * self.negatives)[:, 0] > 0
        return both


def auroc(ranking: Ranking) -> Floats:
    """(D,) P(a positive scores above a negative), ties counted half; NaN where a class is absent."""
    tp, fp = _from_zero(ranking.tp), _from_zero(ranking.fp)
    area = (np.diff(fp) * (tp[:, 1:] + tp[:, :-1]) / 2).sum(axis=1)
    return _divided(area, (ranking.positives * ranking.negatives)[:, 0])


def auprc(ranking: Ranking) -> Floats:
    """(D,) average precision: precision at each threshold, weighted by the recall gained there; NaN where a
    class is absent."""
    gained = np.diff(_from_zero(ranking.tp))
    precision = _divided(ranking.tp, ranking.tp + ranking.fp, empty=0)
    area = _divided((gained * precision).sum(axis=1), ranking.positives[:, 0])
    return np.where(ranking.has_both_classes, area, np.nan)


def sensitivity_at(ranking: Ranking, specificity: float) -> Floats:
    """(D,) the best sensitivity at any threshold whose specificity is at least this; NaN where a class is
    absent."""
    allowed = (ranking.fp <= (1 - specificity) * ranking.negatives * (1 + 1e-12)).sum(axis=1)
    found = np.where(allowed, ranking.tp[np.arange(len(allowed)), allowed - 1], 0)
    sensitivity = _divided(found, ranking.positives[:, 0])
    return np.where(ranking.has_both_classes, sensitivity, np.nan)


def specificity_at(ranking: Ranking, sensitivity: float) -> Floats:
    """(D,) the best specificity at any threshold whose sensitivity is at least this; NaN where a class is
    absent."""
    too_few = (ranking.tp < sensitivity * ranking.positives * (1 - 1e-12)).sum(axis=1)
    alarms = ranking.fp[np.arange(len(too_few)), np.minimum(too_few, ranking.fp.shape[1] - 1)]
    specificity = 1 - _divided(alarms, ranking.negatives[:, 0])
    return np.where(ranking.has_both_classes, specificity, np.nan)


@dataclass(frozen=True)
class Confusion:
    """Weighted counts (D,) when scores at or above a threshold are called positive."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats

    @classmethod
    def at(cls, ranking: Ranking, threshold: float) -> "Confusion":
        called = int((ranking.thresholds >= threshold).sum())
        tp = _from_zero(ranking.tp)[:, called]
        fp = _from_zero(ranking.fp)[:, called]
        return cls(tp, fp, ranking.positives[:, 0] - tp, ranking.negatives[:, 0] - fp)

    def metrics(self, resampled: bool = False) -> dict[str, Floats]:
        """Precision is 0 where nothing is called positive, as in the report's tables and scikit-learn. In
        draws of a bootstrap (`resampled`) it is NaN there, and precision and F1 are NaN without one of the
        classes: what is not defined in a draw is no value of 0."""
        sensitivity = _divided(self.tp, self.tp + self.fn)
        specificity = _divided(self.tn, self.tn + self.fp)
        hard_auroc = (sensitivity + specificity) / 2
        precision = _divided(self.tp, self.tp + self.fp, empty=np.nan if resampled else 0)
        f1 = _divided(2 * self.tp, 2 * self.tp + self.fp + self.fn, empty=0)
        one_class = np.isnan(hard_auroc) & resampled
        return {
            "accuracy": _divided(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn),
            "precision": np.where(one_class, np.nan, precision),
            "recall": sensitivity,
            "specificity": specificity,
            "f1": np.where(one_class, np.nan, f1),
            "hard_auroc": hard_auroc,
        }


def all_metrics(ranking: Ranking, threshold: float, resampled: bool = False) -> dict[str, Floats]:
    """Every metric of a run, (D,) each, by key; those of 0/1 predictions at `threshold`. `hard_auroc` is what
    the report calls ROC-AUC: the area under a ROC of the 0/1 predictions, (sensitivity + specificity) / 2.
    `resampled`: of draws of a bootstrap, see `Confusion.metrics`."""
    return {
        "auroc": auroc(ranking),
        "auprc": auprc(ranking),
        "sensitivity_at_90_specificity": sensitivity_at(ranking, 0.90),
        "sensitivity_at_95_specificity": sensitivity_at(ranking, 0.95),
        **Confusion.at(ranking, threshold).metrics(resampled),
    }


def compute_metrics(labels: Array, scores: Array, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of (N,) labels and scores, by key."""
    return {
        name: float(value[0]) for name, value in all_metrics(Ranking.of(labels, scores), threshold).items()
    }


def best_f1_threshold(labels: Array, scores: Array) -> float:
    """The score at and above which calling positive gives the best F1; half-way to the next score below,
    so that it does not sit on one image's score."""
    ranking = Ranking.of(labels, scores)
    f1 = 2 * ranking.tp[0] / (ranking.tp[0] + ranking.fp[0] + ranking.positives[0])
    best = int(f1.argmax())
    neighbours = ranking.thresholds[best : best + 2]
    return float(neighbours.mean())


Interval = tuple[float, float]
NO_INTERVAL: Interval = (np.nan, np.nan)


def fewest_patients(labels: Array, patients: Array) -> tuple[int, str]:
    """How many of patients (N,) have an image of the class that the fewest have, and this class: positive or
    negative, by labels (N,) 0/1."""
    counts = {name: len(np.unique(patients[labels == y])) for name, y in (("positive", 1), ("negative", 0))}
    rarest = min(counts, key=lambda name: counts[name])
    return counts[rarest], rarest


def bootstrap_intervals(
    labels: Array, scores: Array, patients: Array, threshold: float, draws: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """95% intervals of `all_metrics`, by key; NaN with fewer than FEWEST_PATIENTS of a class. Draws in which
    a metric is not defined, as without one of the classes, are left out of its interval; accuracy is defined
    in every draw. See also `with_exact_ends`."""
    metrics = compute_metrics(labels, scores, threshold)
    if fewest_patients(labels, patients)[0] < FEWEST_PATIENTS:
        return dict.fromkeys(metrics, NO_INTERVAL)
    intervals = percentile_intervals(
        patients,
        lambda weights: all_metrics(Ranking.of(labels, scores, weights), threshold, resampled=True),
        draws,
        seed,
    )
    return with_exact_ends(intervals, metrics, labels, patients)


def with_exact_ends(
    intervals: Mapping[str, Interval], metrics: Mapping[str, float], labels: Array, patients: Array
) -> dict[str, Interval]:
    """The intervals, in which a metric that is 0 or 1 in all draws has the interval of Clopper and Pearson
    (1934) for none, or n, of n: resampling cannot draw the error that did not occur. n is the number of
    patients with a positive for sensitivities, with a negative for specificities, of all patients for the
    accuracy, and of those of the rarer class for other metrics of `all_metrics`."""
    positive, negative = (len(np.unique(patients[labels == label])) for label in (1, 0))
    n_patients = {"recall": positive, "sensitivity": positive, "specificity": negative}
    n_patients["accuracy"] = len(np.unique(patients))
    n_patients |= dict.fromkeys(("auroc", "auprc", "precision", "f1", "hard_auroc"), min(positive, negative))
    found = dict(intervals)
    for name, (low, high) in intervals.items():
        n = n_patients.get(name.partition("_at_")[0])
        if n and low == high == metrics[name] and metrics[name] in (0, 1):
            end = 0.025 ** (1 / n)
            found[name] = (end, 1.0) if high == 1 else (0.0, 1 - end)
    return found


def percentile_intervals(
    patients: Array, metrics_of: Callable[[Floats], Mapping[str, Floats]], draws: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """95% percentile intervals of `bootstrap_samples`; where a metric is NaN, the draw is left out."""
    samples = bootstrap_samples(patients, metrics_of, draws, seed)
    return {name: central_95(values) for name, values in samples.items()}


def bootstrap_samples(
    patients: Array, metrics_of: Callable[[Floats], Mapping[str, Floats]], draws: int = 2000, seed: int = 0
) -> dict[str, Floats]:
    """(draws,) each, what `metrics_of` makes of weights (D, N): patients (N,) are resampled with all their
    images (Rutter 2000), since images of one patient are not independent."""
    names, patient = np.unique(patients, return_inverse=True)
    generator = np.random.default_rng(seed)
    samples: dict[str, list[Floats]] = {}
    chunk = max(1, 4_000_000 // max(1, len(patients)))  # bounds the memory: about 32 MB a table
    for start in range(0, draws, chunk):
        drawn = generator.multinomial(
            len(names), np.full(len(names), 1 / len(names)), min(chunk, draws - start)
        )
        for name, values in metrics_of(drawn[:, patient].astype(float)).items():
            samples.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in samples.items()}


def bootstrap_means(values: Array, patients: Array, draws: int = 2000, seed: int = 0) -> list[Interval]:
    """K 95% intervals, of the mean of each column of (N, K) values; NaN where there are no rows."""
    if not len(values):
        return [NO_INTERVAL] * values.shape[1]

    def means(weights: Floats) -> dict[str, Floats]:
        columns = (weights @ values / weights.sum(axis=1, keepdims=True)).T
        return {f"{number}": column for number, column in enumerate(columns)}

    return list(percentile_intervals(patients, means, draws, seed).values())


def calls_one_class(labels: Array, scores: Array) -> bool:
    """Whether a model has collapsed: at P >= .5 the rarer class is predicted less than a fifth as often as it
    is true. (The report's 50-epoch runs predicted it for .06%, 2.2% and 3.9% of images; 21.9% had it.)"""
    called, true = float((scores >= 0.5).mean()), float((np.asarray(labels) == 1).mean())
    return called < true / 5 or 1 - called < (1 - true) / 5


def calibrated_share_called(auroc: float, prevalence: float) -> float:
    """The share of images that a calibrated model of this AUROC, above .5, calls positive at P >= .5, if its
    log odds are normal in both classes with one variance. They are then d x - d^2 / 2 + logit(prevalence),
    where x has the variance 1, the mean 0 in negatives and d = sqrt(2) z(AUROC) in positives (Green & Swets
    1966)."""
    normal = NormalDist()
    d = math.sqrt(2) * normal.inv_cdf(min(auroc, 1 - 1e-6))
    threshold = d / 2 - math.log(prevalence / (1 - prevalence)) / d
    return prevalence * normal.cdf(d - threshold) + (1 - prevalence) * normal.cdf(-threshold)


def log_odds(probabilities: Array | float, margin: float = 1e-12) -> Floats:
    """ln(p / (1 - p)), of the same shape, of probabilities that are first kept `margin` away from 0 and 1."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), margin, 1 - margin)
    return np.asarray(np.log(p / (1 - p)))


def jumpiness(values: Floats) -> float:
    """Mean absolute change from one epoch to the next: the report's "vibration"."""
    return float(np.abs(np.diff(values)).mean()) if len(values) > 1 else 0.0


def mean_ranks(values: Array) -> Floats:
    """(N,) from 1, of rising values; equal ones have the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def _from_zero(counts: Floats) -> Floats:
    return np.concatenate([np.zeros((len(counts), 1)), counts], axis=1)


def _divided(top: Floats, bottom: Floats, empty: float = np.nan) -> Floats:
    quotient: Floats = np.divide(top, bottom, out=np.full(np.shape(top), float(empty)), where=bottom > 0)
    return quotient


def central_95(values: Floats) -> Interval:
    known = values[~np.isnan(values)]
    if not len(known):
        return NO_INTERVAL
    low, high = np.quantile(known, [0.025, 0.975])
    return (float(low), float(high))
