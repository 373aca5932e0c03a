"""Everything that is said of a model's answers on some images: arrays in, figures with intervals out.

N images, D draws (rows of weights)"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from pneumo.evaluation import calibration, delong, metrics
from pneumo.evaluation.metrics import Array, Floats, Interval, Ranking

LEVELS = (80, 90, 95)  # percent
PREVALENCES = (1, 5, 22)  # percent: screening, an emergency department, SIIM-ACR


@dataclass(frozen=True)
class Answers:
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

    def part(self, rows: Array) -> "Answers":
        """(N,) bool"""
        return replace(
            self, labels=self.labels[rows], log_odds=self.log_odds[rows], patients=self.patients[rows]
        )


@dataclass(frozen=True)
class Evaluation:
    answers: Answers
    figures: dict[str, float]
    intervals: dict[str, Interval]  # 95%, patients resampled
    left_out: dict[str, int]  # draws in which the figure is not defined, of all
    delong: Interval  # of the AUROC, images taken as independent

    @classmethod
    def of(cls, answers: Answers, draws: int = 2000) -> "Evaluation":
        samples = metrics.bootstrap_samples(
            answers.patients, lambda weights: figures(answers, weights), draws
        )
        return cls(
            answers,
            {name: float(value[0]) for name, value in figures(answers).items()},
            {name: metrics.central_95(values) for name, values in samples.items()},
            {name: int(np.isnan(values).sum()) for name, values in samples.items()},
            delong.interval(answers.labels, answers.log_odds),
        )

    def named(self, prefix: str) -> dict[str, float]:
        """`prefix/auroc`, `prefix/auroc_low`, `prefix/auroc_high`, ...; what is not known is left out."""
        named: dict[str, float] = {}
        for name, value in self.figures.items():
            low, high = self.intervals[name]
            named |= {f"{prefix}/{name}": value, f"{prefix}/{name}_low": low, f"{prefix}/{name}_high": high}
        return {name: value for name, value in named.items() if np.isfinite(value)}


def figures(answers: Answers, weights: Floats | None = None) -> dict[str, Floats]:
    """(D,) each, by name: of the images as they are, or of draws of them."""
    ranking = Ranking.of(answers.labels, answers.log_odds, weights)
    found = metrics.figures(ranking, answers.threshold, resampled=weights is not None)
    found["sensitivity_at_80_specificity"] = metrics.sensitivity_at(ranking, 0.8)
    for level in LEVELS:
        found[f"specificity_at_{level}_sensitivity"] = metrics.specificity_at(ranking, level / 100)
    for percent in PREVALENCES:
        ppv, npv = predictive_values(found["recall"], found["specificity"], percent / 100)
        found |= {f"ppv_at_{percent}": ppv, f"npv_at_{percent}": npv}
    raw = calibration.figures(answers.log_odds, answers.labels, weights)
    scaled = calibration.figures(answers.log_odds / answers.temperature, answers.labels, weights)
    return {**found, **raw, **{f"calibrated_{name}": value for name, value in scaled.items()}}


def predictive_values(sensitivity: Floats, specificity: Floats, prevalence: float) -> tuple[Floats, Floats]:
    """PPV and NPV where so large a share of patients is positive (Bayes); NaN where nothing is called so."""
    positive = sensitivity * prevalence
    false_alarms = (1 - specificity) * (1 - prevalence)
    negative = specificity * (1 - prevalence)
    missed = (1 - sensitivity) * prevalence
    with np.errstate(invalid="ignore"):
        return positive / (positive + false_alarms), negative / (negative + missed)


@dataclass(frozen=True)
class Comparison:
    """Of two models on the same images: the second's AUROC less the first's."""

    aurocs: tuple[float, float]
    by_patients: Interval  # 95%, patients resampled
    by_delong: delong.Difference


def compared(first: Answers, second: Answers, draws: int = 2000) -> Comparison:
    labels = first.labels

    def difference(weights: Floats | None = None) -> Mapping[str, Floats]:
        areas = [metrics.auroc(Ranking.of(labels, one.log_odds, weights)) for one in (first, second)]
        return {"first": areas[0], "second": areas[1], "difference": areas[1] - areas[0]}

    whole = difference()
    return Comparison(
        (float(whole["first"][0]), float(whole["second"][0])),
        metrics.intervals(first.patients, difference, draws)["difference"],
        delong.difference(labels, first.log_odds, second.log_odds),
    )
