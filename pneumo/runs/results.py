"""The results of a run: those of a split, those of its training, and its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pneumo.data.dataset import Dataset
from pneumo.evaluation.calibration import platt_scaling
from pneumo.evaluation.metrics import Interval, bootstrap_intervals, compute_metrics, jumpiness, log_odds
from pneumo.training.predict import Predictions
from pneumo.training.state import TrainState

WITH_INTERVAL = ("auroc",)  # metrics of a split


@dataclass(frozen=True)
class SplitResult:
    """Predictions on one split, with metrics and 95% intervals at a threshold chosen elsewhere."""

    predictions: Predictions
    patients: np.ndarray  # (N,) equal for images of one patient
    threshold: float
    metrics: dict[str, float]
    intervals: dict[str, Interval]

    @classmethod
    def of(cls, predictions: Predictions, patients: np.ndarray, threshold: float) -> "SplitResult":
        """Computes the metrics and intervals."""
        labels, scores = predictions.labels, predictions.scores
        metrics = {"loss": predictions.loss, **compute_metrics(labels, scores, threshold)}
        intervals = bootstrap_intervals(labels, scores, patients, threshold)
        return cls(predictions, patients, threshold, metrics, intervals)

    def named(self, split: str) -> dict[str, float]:
        """What MLflow shows: `test/auroc`, `test/auroc_low`, `test/auroc_high`, `test/f1`, ...; those that
        are not finite are left out."""
        named = {f"{split}/{name}": value for name, value in self.metrics.items()}
        for name in WITH_INTERVAL:
            low, high = self.intervals[name]
            named |= {f"{split}/{name}_low": low, f"{split}/{name}_high": high}
        return {name: value for name, value in named.items() if np.isfinite(value)}


def training_metrics(train_state: TrainState) -> dict[str, float]:
    """Metrics of the whole training by their MLflow names: those of the best and the last epoch, how much the
    validation curves fluctuate, and the gaps between training and validation."""
    history = train_state.history
    best, last = history[train_state.best_epoch - 1], history[-1]
    names = ("val/loss", "val/accuracy")
    jump = {name: jumpiness(np.array([epoch[name] for epoch in history])) for name in names}
    return {
        **{
            f"{which}/{name.replace('/', '_')}": value
            for which, metrics in (("best", best), ("last", last))
            for name, value in metrics.items()
            if name.startswith(("train/", "val/"))
        },
        "best/epoch": train_state.best_epoch,
        "findings/val_loss_jump": jump["val/loss"],
        "findings/val_accuracy_jump": jump["val/accuracy"],
        "findings/val_minus_train_loss": last["val/loss"] - last["train/loss"],
        "findings/train_minus_val_accuracy": last["train/accuracy"] - last["val/accuracy"],
        "fit_seconds": sum(epoch["epoch_seconds"] for epoch in train_state.all_epochs),
    }


def calibrated_brier(result: SplitResult) -> float:
    """The Brier score of P after Platt scaling: that of one half of the patients is fitted on the other, so
    that losses which give P on other scales can be compared. NaN if a half has one class only."""
    patient = np.unique(result.patients, return_inverse=True)[1]
    half, labels = patient % 2 == 0, result.predictions.labels
    if any(len(np.unique(labels[side])) < 2 for side in (half, ~half)):
        return float("nan")
    odds = log_odds(result.predictions.scores)
    of_half, of_other = (platt_scaling(odds[side], labels[side]) for side in (half, ~half))
    scaled = np.where(half, of_other.probabilities(odds), of_half.probabilities(odds))
    return float(np.mean((scaled - labels) ** 2))


def predictions_csv(results: Mapping[str, SplitResult], dataset: Dataset) -> str:
    """The predictions as CSV, a row an image: image_id, patient_id, label, score, split."""
    table = dataset.cohort.table[["image_id", "patient_id"]]
    rows = [
        table.iloc[predicted.rows].assign(
            label=predicted.labels, score=np.round(predicted.scores, 9), split=split
        )
        for split, predicted in ((split, result.predictions) for split, result in results.items())
    ]
    text: str = pd.concat(rows).to_csv(index=False)
    return text
