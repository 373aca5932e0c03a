"""The predictions of a run, scored as the report scored its own: at P = .5."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pneumo.display.format import decimal, with_interval
from pneumo.errors import InputError
from pneumo.evaluation.metrics import Interval, bootstrap_intervals, compute_metrics
from pneumo.runs import query
from pneumo.runs.query import RunRecord

THRESHOLD = 0.5


@dataclass(frozen=True)
class RescoredRun:
    """Metrics of one run with 95% intervals from resampled patients. AUROC and AUPRC are those that the run
    logged, all others are computed at P = .5. N is 0 where predictions.csv is gone."""

    split: str  # test, or val where the test split was not evaluated
    labels: np.ndarray  # (N,) 0 or 1
    scores: np.ndarray  # (N,) P(pneumothorax)
    metrics: Mapping[str, tuple[float, Interval]]  # name -> value and interval

    def formatted(self, name: str) -> str:
        """The metric as .561 (.475 - .650), or - where it is not known."""
        return with_interval(*self.metrics[name]) if name in self.metrics else "-"

    @property
    def auroc(self) -> float:
        """The AUROC, or NaN where the run logged none."""
        return self.metrics["auroc"][0] if "auroc" in self.metrics else float("nan")

    @property
    def n_predicted_positive(self) -> int:
        return int((self.scores >= THRESHOLD).sum())


def rescore(run: RunRecord) -> RescoredRun:
    """Reads the run's predictions.csv from MLflow and scores the rows of its test or validation split."""
    run = query.with_results(run)
    split = "test" if "test/auroc" in run.metrics else "val"
    ranking = {
        name: (run.metrics[f"{split}/{name}"], ends)
        for name in ("auroc", "auprc")
        if (ends := logged_interval(run, f"{split}/{name}"))
    }
    try:
        table = pd.read_csv(io.StringIO(query.read_text(run.run_id, "predictions.csv")))
    except InputError:
        return RescoredRun(split, np.array([]), np.array([]), ranking)
    table = table[table["split"] == split]
    labels, scores = table["label"].to_numpy(), table["score"].to_numpy(float)
    patients = table["patient_id"].astype(str).where(table["patient_id"].notna(), table["image_id"])
    metrics = compute_metrics(labels, scores, THRESHOLD)
    intervals = bootstrap_intervals(labels, scores, patients.to_numpy(str), THRESHOLD)
    both = {name: (metrics[name], intervals[name]) for name in metrics}
    return RescoredRun(split, labels, scores, both | ranking)


def logged_interval(run: RunRecord, name: str) -> Interval | None:
    """The interval that a run logged beside a metric, if it did."""
    low, high = (run.metrics.get(f"{name}_{end}") for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def logged(run: RunRecord, name: str) -> str:
    """A metric as the run logged it, with its interval where it has one; - where it was not logged."""
    if name not in run.metrics:
        return "-"
    ends = logged_interval(run, name)
    return with_interval(run.metrics[name], ends) if ends else decimal(run.metrics[name])
