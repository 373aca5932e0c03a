"""The results of a finished run on a split, metrics of its training, and why it may have collapsed."""

from dataclasses import dataclass

import numpy as np

from pneumo.evaluation.metrics import (
    Interval,
    bootstrap_intervals,
    calls_one_class,
    compute_metrics,
    jumpiness,
)
from pneumo.runs.experiment import Experiment
from pneumo.training.lesion_retention import NOTHING_LEFT, SAMPLED, share_of_lesions_lost
from pneumo.training.predict import Predictions
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

FEW_PATIENTS = 20  # with a positive image, too few to learn from


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
        """`test/auroc`, `test/auroc_low`, `test/auroc_high`, ...; those that are not finite are left out."""
        named = {f"{split}/{name}": value for name, value in self.metrics.items()}
        for name, (low, high) in self.intervals.items():
            named |= {f"{split}/{name}_low": low, f"{split}/{name}_high": high}
        return {name: value for name, value in named.items() if np.isfinite(value)}

    @property
    def collapsed(self) -> bool:
        """Whether nearly all images are predicted to be of one class."""
        return calls_one_class(self.predictions.labels, self.predictions.scores)


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
        "fit_seconds": sum(epoch["epoch_seconds"] for epoch in history),
    }


def collapse_message(result: SplitResult, split: str, reason: str) -> str:
    """The message of a run that predicts nearly one class alone; `reason` is that of `likely_reason`."""
    positive = int((result.predictions.scores >= 0.5).sum())
    n = len(result.predictions.labels)
    called, count = ("negative", n - positive) if positive < n / 2 else ("positive", positive)
    low, high = result.intervals["auroc"]
    ranks = "it has not learned to rank them" if low < 0.6 else "its ranking is better than its predictions"
    return (
        f"COLLAPSED: {count:,} of {n:,} {split} images are called {called} (P at or above .5). "
        f"AUROC {result.metrics['auroc']:.2f} ({low:.2f} - {high:.2f}): {ranks}.\nLikely: {reason}"
    )


def likely_reason(
    experiment: Experiment, trainer: Trainer, train_state: TrainState, positive_patients: int
) -> str:
    """Why a run collapsed, by what can be checked: a frozen random network, a crop that loses lesions, few
    positive patients in training, or no learning at all."""
    model, augment, augment_name = experiment.model, experiment.augment, experiment.choices["augment"]
    if model.freeze == "backbone" and model.pretrained is None:
        return (
            "all layers but the last are frozen at random values; "
            "try model.freeze=none, or model.pretrained=imagenet."
        )
    store = trainer.batches.store
    lesions = store.mask_of[trainer.split.train]
    lesions = lesions[lesions >= 0][:SAMPLED]
    lost = share_of_lesions_lost(augment, store, lesions, NOTHING_LEFT) if len(lesions) else 0.0
    if lost > 0.1 and not augment.relabel:
        return (
            f"its crop loses the whole lesion in {lost:.0%} of positive draws (augment={augment_name}); "
            "try augment=safe, or augment.relabel=true."
        )
    if positive_patients < FEW_PATIENTS:
        return f"it has only {positive_patients} positive patients to learn from: too few."
    prevalence = trainer.split.numbers["split/train_prevalence"]
    constant, reached = max(prevalence, 1 - prevalence), train_state.history[-1]["train/accuracy"]
    if reached < constant + (1 - constant) / 5:
        return (
            f"it has not learned its training images either: accuracy {reached:.2f}, where one class "
            f"for all gives {constant:.2f}; try a higher optimizer.lr, optimizer=adamw, or more fit.epochs."
        )
    return "it learned its training images but nothing that generalises; try augment=safe or more data."
