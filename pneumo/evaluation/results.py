"""Metrics of a model's predictions with 95% intervals, and the comparison of two models.

N images, D draws (rows of weights)"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from pneumo.evaluation import calibration, delong
from pneumo.evaluation.metrics import (
    LEVELS,
    PREVALENCES,
    Array,
    Floats,
    Interval,
    Ranking,
    all_metrics,
    auroc,
    bootstrap_samples,
    central_95,
    percentile_intervals,
    sensitivity_at,
    specificity_at,
)

COMPARED = ("recall", "specificity")  # beside the AUROC


@dataclass(frozen=True)
class LogOddsPredictions:
    """`labels` (N,) 0/1, `log_odds` (N,) of pneumothorax, `patients` (N,) equal for images of one patient;
    `threshold` in log odds and `temperature` were chosen on other images."""

    labels: Array
    log_odds: Array
    patients: Array
    threshold: float
    temperature: float
    patients_known: bool = True  # else each image counts as a patient of its own

    @property
    def calibrated(self) -> Array:
        """(N,) P(pneumothorax) after temperature scaling."""
        scaled: Array = expit(self.log_odds / self.temperature)
        return scaled

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
        samples = bootstrap_samples(
            predictions.patients, lambda weights: evaluation_metrics(predictions, weights), draws
        )
        return cls(
            predictions,
            {name: float(value[0]) for name, value in evaluation_metrics(predictions).items()},
            {name: central_95(values) for name, values in samples.items()},
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
        predictions.log_odds / predictions.temperature, predictions.labels, weights
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


@dataclass(frozen=True)
class Comparison:
    """Of two models on the same images: both AUROCs, and intervals of the second's less the first's."""

    aurocs: tuple[float, float]
    by_patients: Interval  # 95%, patients resampled
    by_delong: delong.Difference


def compare_auroc(first: LogOddsPredictions, second: LogOddsPredictions, draws: int = 2000) -> Comparison:
    labels = first.labels

    def difference(weights: Floats | None = None) -> Mapping[str, Floats]:
        areas = [auroc(Ranking.of(labels, one.log_odds, weights)) for one in (first, second)]
        return {"first": areas[0], "second": areas[1], "difference": areas[1] - areas[0]}

    whole = difference()
    return Comparison(
        (float(whole["first"][0]), float(whole["second"][0])),
        percentile_intervals(first.patients, difference, draws)["difference"],
        delong.difference(labels, first.log_odds, second.log_odds),
    )
