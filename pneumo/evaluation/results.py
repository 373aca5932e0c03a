"""Metrics of a model's predictions with 95% intervals, and the comparison of two models.

N images, D draws (rows of weights)"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pneumo.evaluation import calibration, delong
from pneumo.evaluation.metrics import (
    FEWEST_PATIENTS,
    LEVELS,
    NO_INTERVAL,
    PREVALENCES,
    Array,
    Floats,
    Interval,
    Ranking,
    all_metrics,
    auroc,
    bootstrap_samples,
    central_95,
    fewest_patients,
    percentile_intervals,
    sensitivity_at,
    specificity_at,
    with_exact_ends,
)
from pneumo.evaluation.platt import UNSCALED, PlattScaling

COMPARED = ("recall", "specificity")  # beside the AUROC


@dataclass(frozen=True)
class LogOddsPredictions:
    """`labels` (N,) 0/1, `log_odds` (N,) of pneumothorax, `patients` (N,) equal for images of one patient;
    `threshold` in log odds and `scaling` were chosen on other images."""

    labels: Array
    log_odds: Array
    patients: Array
    threshold: float
    scaling: PlattScaling = UNSCALED
    patients_known: bool = True  # else each image counts as a patient of its own

    @property
    def probabilities(self) -> dict[str, Array]:
        """(N,) P(pneumothorax) as trained and, unless it is UNSCALED, after Platt scaling."""
        found = {"as trained": UNSCALED.probabilities(self.log_odds)}
        if self.scaling != UNSCALED:
            found["after Platt scaling"] = self.scaling.probabilities(self.log_odds)
        return found

    def subset(self, rows: Array) -> "LogOddsPredictions":
        """Those of `rows`: (N,) bool, or positions in another order."""
        return replace(
            self, labels=self.labels[rows], log_odds=self.log_odds[rows], patients=self.patients[rows]
        )


@dataclass(frozen=True)
class Evaluation:
    predictions: LogOddsPredictions
    metrics: dict[str, float]
    intervals: dict[str, Interval]  # 95%, patients resampled
    left_out: dict[str, int]  # draws in which the metric is not defined
    delong: Interval  # of the AUROC, images taken as independent

    @classmethod
    def of(cls, predictions: LogOddsPredictions, draws: int = 2000) -> "Evaluation":
        """With fewer than FEWEST_PATIENTS of a class there are no intervals: all are NaN."""
        metrics = {name: float(value[0]) for name, value in evaluation_metrics(predictions).items()}
        if has_too_few_patients(predictions):
            none = dict.fromkeys(metrics, NO_INTERVAL)
            return cls(predictions, metrics, none, dict.fromkeys(metrics, 0), NO_INTERVAL)
        samples = bootstrap_samples(
            predictions.patients, lambda weights: evaluation_metrics(predictions, weights), draws
        )
        intervals = with_exact_ends(
            {name: central_95(values) for name, values in samples.items()},
            metrics,
            predictions.labels,
            predictions.patients,
        )
        return cls(
            predictions,
            metrics,
            intervals | exact_predictive_values(intervals),
            {name: int(np.isnan(values).sum()) for name, values in samples.items()},
            delong.interval(predictions.labels, predictions.log_odds),
        )

    def named(self, prefix: str) -> dict[str, float]:
        """The metrics that runs are compared by: `prefix/auroc` with `prefix/auroc_low` and
        `prefix/auroc_high`, and COMPARED; what is NaN is left out."""
        low, high = self.intervals["auroc"]
        named = {f"{prefix}/{name}": self.metrics[name] for name in ("auroc", *COMPARED)}
        named |= {f"{prefix}/auroc_low": low, f"{prefix}/auroc_high": high}
        return {name: value for name, value in named.items() if np.isfinite(value)}


def has_too_few_patients(predictions: LogOddsPredictions) -> bool:
    """Whether a class has fewer than FEWEST_PATIENTS patients, which give no interval."""
    return fewest_patients(predictions.labels, predictions.patients)[0] < FEWEST_PATIENTS


def evaluation_metrics(predictions: LogOddsPredictions, weights: Floats | None = None) -> dict[str, Floats]:
    """(D,) each, by key: of the images as they are, or of D bootstrap draws given as weights (D, N)."""
    ranking = Ranking.of(predictions.labels, predictions.log_odds, weights)
    found = all_metrics(ranking, predictions.threshold, resampled=weights is not None)
    found["sensitivity_at_80_specificity"] = sensitivity_at(ranking, 0.8)
    for level in LEVELS:
        found[f"specificity_at_{level}_sensitivity"] = specificity_at(ranking, level / 100)
    for percent in PREVALENCES:
        ppv, npv = predictive_values(found["recall"], found["specificity"], percent / 100)
        found |= {f"ppv_at_{percent}": ppv, f"npv_at_{percent}": npv}
    raw = calibration.calibration_metrics(predictions.log_odds, predictions.labels, weights)
    scaled = calibration.calibration_metrics(
        predictions.scaling.log_odds(predictions.log_odds), predictions.labels, weights
    )
    return {**found, **raw, **{f"calibrated_{name}": value for name, value in scaled.items()}}


def predictive_values(sensitivity: Floats, specificity: Floats, prevalence: float) -> tuple[Floats, Floats]:
    """PPV and NPV at a prevalence between 0 and 1 (Bayes' theorem); NaN where nothing is called so."""
    positive = sensitivity * prevalence
    false_alarms = (1 - specificity) * (1 - prevalence)
    negative = specificity * (1 - prevalence)
    missed = (1 - sensitivity) * prevalence
    with np.errstate(invalid="ignore"):
        return positive / (positive + false_alarms), negative / (negative + missed)


def exact_predictive_values(intervals: Mapping[str, Interval]) -> dict[str, Interval]:
    """The intervals of those PPV and NPV that are 0 or 1 in all draws: from both lower and both upper ends of
    sensitivity and specificity."""
    found = {}
    sensitivities, specificities = np.array(intervals["recall"]), np.array(intervals["specificity"])
    for percent in PREVALENCES:
        of_ends = predictive_values(sensitivities, specificities, percent / 100)
        for name, values in zip((f"ppv_at_{percent}", f"npv_at_{percent}"), of_ends, strict=True):
            low, high = intervals[name]
            if low == high:
                found[name] = (float(values[0]), float(values[1]))
    return found


@dataclass(frozen=True)
class Comparison:
    """Of two models on the same images: both AUROCs, and intervals of the second's less the first's, which
    are NaN with fewer than FEWEST_PATIENTS of a class."""

    aurocs: tuple[float, float]
    by_patients: Interval  # 95%, patients resampled
    by_delong: delong.Difference


def compare_auroc(first: LogOddsPredictions, second: LogOddsPredictions, draws: int = 2000) -> Comparison:
    labels = first.labels

    def difference(weights: Floats | None = None) -> Mapping[str, Floats]:
        areas = [auroc(Ranking.of(labels, one.log_odds, weights)) for one in (first, second)]
        return {"first": areas[0], "second": areas[1], "difference": areas[1] - areas[0]}

    whole = difference()
    aurocs = float(whole["first"][0]), float(whole["second"][0])
    if has_too_few_patients(first):
        return Comparison(aurocs, NO_INTERVAL, delong.Difference(aurocs[1] - aurocs[0], NO_INTERVAL, np.nan))
    return Comparison(
        aurocs,
        percentile_intervals(first.patients, difference, draws)["difference"],
        delong.difference(labels, first.log_odds, second.log_odds),
    )
