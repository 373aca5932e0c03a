"""Tells whether a training is on a plateau: it predicts the same share of positives for every image, and its
validation AUROC cannot be told from .5."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from pneumo.components.losses import Loss
from pneumo.training.lesion_retention import SAMPLED, share_of_lesions_lost
from pneumo.training.trainer import Trainer

History = Sequence[Mapping[str, float]]  # the metrics of each epoch by their MLflow names

SHARE_OF_TRAINING = 1 / 3  # on the plateau, before it is told
FEWEST_EPOCHS = 2
FEWEST_STEPS = 300  # of the optimizer: trainings that learn have been seen to begin after up to 265
MARGIN = 0.05  # of the constant loss: on a plateau, the training loss falls up to .04 below by memorising
HIGHEST_LOGIT = 10.0
Z = 1.96  # standard errors on each side of a 95% interval
SPIKE = 1.05  # times the loss of logit 0, above which a training loss is higher than that of no training
VAL_SPIKE = 2.0  # times the constant loss
TOO_HIGH, TOO_LOW = "too high", "too low"


@dataclass(frozen=True)
class ConstantLoss:
    """The training loss of an epoch if every image gets the same logit: `best` of the best logit, and
    `untrained` of logit 0."""

    best: float
    untrained: float

    @classmethod
    def of(cls, loss: Loss, n_positive: int, n_images: int, batch_size: int) -> "ConstantLoss":
        """Minimises the loss itself, so that it holds for weights, focal terms and label smoothing. For
        plain cross-entropy and the share p of positives, `best` is -p ln p - (1 - p) ln(1 - p)."""
        labels = (torch.arange(n_images) < n_positive).float()

        def at(logit: float) -> float:
            return float(loss.of_many(same_logits(logit, n_images, loss.n_outputs), labels, batch_size))

        lowest = minimize_scalar(at, bounds=(-HIGHEST_LOGIT, HIGHEST_LOGIT), method="bounded")
        return cls(float(lowest.fun), at(0.0))


def same_logits(logit: float, n_images: int, n_outputs: int) -> Tensor:
    """(n_images, n_outputs) with the log odds `logit` for each image; two outputs share it equally."""
    row = [logit] if n_outputs == 1 else [-logit / 2, logit / 2]
    return torch.tensor(row).expand(n_images, n_outputs)


@dataclass(frozen=True)
class Plateau:
    """The last `n_epochs` epochs, in which nothing was learned; the losses and the AUROC are the last's."""

    n_epochs: int
    train_loss: float
    constant_loss: float
    val_auroc: float


class PlateauDetector:
    """Finds plateaus in the history of a trainer."""

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self.n_epochs = epochs_until_told(trainer.settings.epochs, trainer.steps_per_epoch())
        self._fewest = fewest_epochs(trainer.steps_per_epoch())
        val = trainer.batches.labels(trainer.split.val).numpy() == 1
        self._highest_auroc = highest_auroc_by_chance(int(val.sum()), int((~val).sum()))
        self._of_share = lru_cache(self._constant_loss)

    def __call__(self, history: History, stopped: bool = False) -> Plateau | None:
        """The plateau at the end of the history, if there is one. Of a training that has `stopped` early, all
        epochs may be fewer than it would otherwise take."""
        n_epochs = max(min(self.n_epochs, len(history)), self._fewest) if stopped else self.n_epochs
        first, last = len(history) - n_epochs, history[-1] if history else {}
        if first < 0 or not all(epoch["val/auroc"] <= self._highest_auroc for epoch in history[first:]):
            return None  # NaN is no evidence
        constants = [self.constant_loss(epoch).best for epoch in range(first + 1, len(history) + 1)]
        losses = [epoch["train/loss"] for epoch in history[first:]]
        if any(loss < (1 - MARGIN) * best for loss, best in zip(losses, constants, strict=True)):
            return None
        return Plateau(n_epochs, losses[-1], constants[-1], last["val/auroc"])

    def learning_rate(self, history: History) -> str | None:
        """TOO_HIGH or TOO_LOW, where the losses of a training that has not learned tell it.

        The rate is too high where a loss rises above that of equal odds for every image, or where all
        validation images get one score, which makes the AUROC exactly .5, twice running. With
        `positive_share`, one answer for every image may lie above it as well: there, the loss has to be twice
        as much. It is too low where the loss is still above that of a constant, and has fallen in every epoch
        or moved by less than half of what is left. Between the two, the losses tell nothing."""
        losses = [epoch["train/loss"] for epoch in history]
        constants = [self.constant_loss(number) for number in range(1, len(history) + 1)]
        natural = self._trainer.settings.positive_share is None
        spike = SPIKE if natural else VAL_SPIKE
        rose = any(a > spike * c.untrained for a, c in zip(losses, constants, strict=True))
        val_rose = natural and any(
            epoch["val/loss"] > max(VAL_SPIKE * c.best, SPIKE * c.untrained)
            for epoch, c in zip(history, constants, strict=True)
        )
        one_score = len(history) > 1 and all(epoch["val/auroc"] == 0.5 for epoch in history[-2:])
        if rose or val_rose or one_score:
            return TOO_HIGH
        left = [a / c.best - 1 for a, c in zip(losses, constants, strict=True)]
        still_falls = all(later < earlier for earlier, later in pairwise(left))
        if left[-1] > MARGIN and (still_falls or max(left) - min(left) < left[-1] / 2):
            return TOO_LOW
        return None

    def constant_loss(self, epoch: int) -> ConstantLoss:
        """The losses of an epoch, from 1, if all images get the same logit."""
        return self._of_share(self._trainer.positive_share(epoch))

    def _constant_loss(self, positive_share: float) -> ConstantLoss:
        trainer = self._trainer
        n_images = len(trainer.split.train)
        n_positive = round(labelled_share(trainer, positive_share) * n_images)
        return ConstantLoss.of(trainer.loss, n_positive, n_images, trainer.settings.batch_size)


def epochs_until_told(epochs: int, steps_per_epoch: int) -> int:
    """After how many whole epochs without learning a training is called on a plateau. They may be more than
    all: a short training cannot be told from one that has not yet begun to learn."""
    return max(math.ceil(epochs * SHARE_OF_TRAINING), fewest_epochs(steps_per_epoch))


def fewest_epochs(steps_per_epoch: int) -> int:
    """The fewest epochs after which any training is called on a plateau."""
    return max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps_per_epoch))


def highest_auroc_by_chance(n_positive: int, n_negative: int) -> float:
    """The upper end of the 95% interval of the AUROC of random scores. Their variance is (m + n + 1) / (12 m
    n), as that of Mann & Whitney's U (1947). NaN without one of the classes."""
    product = n_positive * n_negative
    return 0.5 + Z * math.sqrt((n_positive + n_negative + 1) / (12 * product)) if product else math.nan


def labelled_share(trainer: Trainer, share: float) -> float:
    """The share of positives among the labels that are learned from, where `share` of the images are
    positive. Relabelling makes those negative whose crop loses the lesion, and drops those in doubt; how many
    these are is estimated from one augmentation of some lesions."""
    augment, store = trainer.augment, trainer.batches.store
    lesions = store.mask_of[trainer.split.train]
    lesions = lesions[lesions >= 0][:SAMPLED]
    if not augment.relabel or not len(lesions):
        return share
    lost, not_kept = (
        share_of_lesions_lost(augment, store, lesions, below)
        for below in (augment.relabel_lost_below, augment.relabel_kept_from)
    )
    positive = trainer.batches.labels(trainer.split.train).numpy() == 1
    annotated = share * float(np.mean(store.has_mask[trainer.split.train][positive]))
    return (share - annotated * not_kept) / (1 - annotated * (not_kept - lost))
