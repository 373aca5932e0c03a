"""A run's answers counted as the report counted: at P = .5, on the split it was judged on last."""

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pneumo.display.format import decimal, with_interval
from pneumo.errors import InputError
from pneumo.evaluation.metrics import Interval, bootstrap_intervals, compute_metrics
from pneumo.runs import query
from pneumo.runs.query import RunRecord

AT = 0.5


@dataclass(frozen=True)
class RescoredRun:
    """`figures` and 95% `intervals` by name: those of the ranking as the run logged them, those of the
    answers at P = .5; patients resampled. Empty where the predictions are gone."""

    part: str  # test, or val where the test split was left alone
    labels: np.ndarray
    scores: np.ndarray
    metrics: dict[str, float]
    intervals: dict[str, Interval]

    def said(self, name: str) -> str:
        """.561 (.475 - .650)"""
        return with_interval(self.metrics[name], self.intervals[name]) if name in self.metrics else "-"

    @property
    def called(self) -> int:
        """Images answered with positive."""
        return int((self.scores >= AT).sum())


def rescore(run: RunRecord) -> RescoredRun:
    part = "test" if "test/auroc" in run.metrics else "val"
    ranking = {
        name: (run.metrics[f"{part}/{name}"], (run.metrics[low], run.metrics[high]))
        for name in ("auroc", "auprc")
        for low, high in [(f"{part}/{name}_low", f"{part}/{name}_high")]
        if low in run.metrics
    }
    try:
        table = pd.read_csv(io.StringIO(query.read_text(run.run_id, "predictions.csv")))
    except InputError:
        return RescoredRun(part, np.array([]), np.array([]), *split(ranking))
    table = table[table["split"] == part]
    labels, scores = table["label"].to_numpy(), table["score"].to_numpy(float)
    patients = table["patient_id"].astype(str).where(table["patient_id"].notna(), table["image_id"])
    metrics = compute_metrics(labels, scores, AT)
    intervals = bootstrap_intervals(labels, scores, patients.to_numpy(str), AT)
    there = {name: (metrics[name], intervals[name]) for name in metrics}
    return RescoredRun(part, labels, scores, *split(there | ranking))


def split(named: dict[str, tuple[float, Interval]]) -> tuple[dict[str, float], dict[str, Interval]]:
    return {name: one[0] for name, one in named.items()}, {name: one[1] for name, one in named.items()}


def logged(run: RunRecord, name: str) -> str:
    """A figure of the run with the interval it was logged with; without one where it has none."""
    if name not in run.metrics:
        return "-"
    ends = [run.metrics.get(f"{name}_{end}") for end in ("low", "high")]
    if ends[0] is None or ends[1] is None:
        return decimal(run.metrics[name])
    return with_interval(run.metrics[name], (ends[0], ends[1]))
