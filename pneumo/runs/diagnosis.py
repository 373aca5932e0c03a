"""The results of a finished run on a split, metrics of its training, and why it may have collapsed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pneumo.data.dataset import Dataset
from pneumo.display.format import counted
from pneumo.evaluation.calibration import platt_scaling
from pneumo.evaluation.metrics import (
    Interval,
    bootstrap_intervals,
    compute_metrics,
    jumpiness,
    log_odds,
)
from pneumo.runs.experiment import Experiment
from pneumo.runs.logged import WITH_INTERVAL
from pneumo.runs.remedy import remedy
from pneumo.training.lesion_retention import NOTHING_LEFT, SAMPLED, share_of_lesions_lost
from pneumo.training.plateau import TOO_HIGH, TOO_LOW, History, Plateau, PlateauDetector
from pneumo.training.predict import Predictions
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

FEW_POSITIVES = 20  # patients or, where they are not known, images: too few to learn from


@dataclass(frozen=True)
class Reason:
    """Why a run has not learned. `rate`: TOO_HIGH or TOO_LOW, where it is the learning rate; `again`: whether
    a second attempt may learn; `mendable`: whether other settings may."""

    text: str
    rate: str | None = None
    again: bool = False
    mendable: bool = True


@dataclass(frozen=True)
class Positives:
    """How many positive patients are trained on or, where patients are not known, positive images."""

    count: int
    patients_known: bool

    @classmethod
    def of(cls, dataset: Dataset) -> "Positives":
        return cls(dataset.positive_patients(dataset.split.train), dataset.patients_known)

    def __str__(self) -> str:
        return counted(self.count, f"positive {'patient' if self.patients_known else 'image'}")

    @property
    def are_few(self) -> bool:
        """Whether they are too few to learn from."""
        return self.count < FEW_POSITIVES


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


def with_advice(reason: Reason, experiment: Experiment, dataset: Dataset) -> Reason:
    """A reason of `likely_reason` that also tells what to add to the run's command."""
    if not reason.mendable or experiment.fit.few_images is not None:
        return replace(reason, text=f"{reason.text}.")
    changes = remedy(experiment, dataset, reason.rate == TOO_HIGH)
    advice = f"try {changes}" if changes else "its settings are already those of experiment=auto"
    return replace(reason, text=f"{reason.text}; {advice}.")


def likely_reason(
    experiment: Experiment,
    trainer: Trainer,
    train_state: TrainState,
    dataset: Dataset,
    find_plateau: PlateauDetector,
    plateau: Plateau | None,
) -> Reason:
    """Why a run collapsed or is on a plateau, by what can be checked: a frozen random network, a crop that
    loses lesions, few positives in training, the learning rate, or nothing that generalises."""
    model, augment, augment_name = experiment.model, experiment.augment, experiment.choices["augment"]
    if model.freeze == "backbone" and model.pretrained is None:
        return Reason("all layers but the last are frozen at random values")
    store = trainer.batches.store
    lesions = store.mask_of[trainer.split.train]
    lesions = lesions[lesions >= 0][:SAMPLED]
    lost = share_of_lesions_lost(augment, store, lesions, NOTHING_LEFT) if len(lesions) else 0.0
    if lost > 0.1 and not augment.relabel:
        what = "crop" if augment.crop < 1 else "augmentation"
        return Reason(
            f"its {what} loses the whole lesion in {lost:.0%} of positive draws (augment={augment_name})"
        )
    positives = Positives.of(dataset)
    if positives.are_few:
        return Reason(f"it has only {positives} to learn from: too few", mendable=False)
    share = trainer.positive_share(len(train_state.history))
    constant, reached = max(share, 1 - share), train_state.history[-1]["train/accuracy"]
    if plateau is None and reached >= constant + (1 - constant) / 5:
        return Reason("it learned its training images but nothing that generalises")
    return rate_reason(find_plateau, train_state.history)


def rate_reason(find_plateau: PlateauDetector, history: History) -> Reason:
    """What the losses of a run that has not learned its training images tell about its learning rate."""
    loss, one_answer = history[-1]["train/loss"], find_plateau.constant_loss(len(history)).best
    losses = f"its training loss is {loss:.2f}, where one answer for all images gives {one_answer:.2f}"
    rate = find_plateau.learning_rate(history)
    if rate == TOO_HIGH:
        one_score = history[-1]["val/auroc"] == 0.5
        rose = f"its losses rose up to {highest_loss(history):.2f}"
        why = "all images get one score" if one_score else rose
        return Reason(f"its learning rate is too high: {why}", rate, again=True)
    if rate == TOO_LOW:
        return Reason(f"its learning rate is too low, or its epochs are too few: {losses}", rate)
    return Reason(f"it gives all images one answer: {losses}", again=True)


def highest_loss(history: History) -> float:
    """The highest loss of an epoch, in training or validation."""
    return max(epoch[name] for epoch in history for name in ("train/loss", "val/loss"))


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
