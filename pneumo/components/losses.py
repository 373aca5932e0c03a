"""Losses: each takes logits (B, n_outputs) and labels (B,) in {0, 1}, returns the mean over the batch,
and turns its logits into P(pneumothorax), the score that every metric is computed from."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.errors import check_settings

OUTERMOST = 1e-3  # label smoothing is undone exactly from this probability to 1 minus it
SHARE = {"at_least": 0, "below": 1}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base class of the losses; a subclass sets the number of outputs that its model needs."""

    n_outputs: ClassVar[int] = 1
    is_mean_over_images: ClassVar[bool] = True  # False: it depends on which images share a batch

    def __post_init__(self) -> None:
        check_settings("loss", self)

    def fitted(self, prevalence: float) -> Self:
        """Returns this loss for a training split with this share of positives."""
        return self

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss, a scalar, of (B, n_outputs) logits and (B,) labels."""
        raise NotImplementedError

    def of_many(self, logits: Tensor, labels: Tensor, batch_size: int) -> Tensor:
        """Returns the loss of (N, n_outputs) logits and (N,) labels, comparable with that of training: a loss
        that depends on the batch is averaged over shuffled batches of `batch_size` images."""
        if self.is_mean_over_images:
            return self(logits, labels)
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        losses = [self(logits[rows], labels[rows]) * len(rows) for rows in torch.split(shuffled, batch_size)]
        return torch.stack(losses).sum() / len(labels)

    def probability(self, logits: Tensor) -> Tensor:
        """Returns P(pneumothorax) (B,) of (B, n_outputs) logits, in float64 on the CPU."""
        return precise(logits).squeeze(1).sigmoid()


@dataclass(frozen=True, kw_only=True)
class Bce(Loss):
    """Binary cross-entropy on one logit. Label smoothing by s moves the targets from 0 and 1 to s/2 and
    1 - s/2, which `probability` undoes."""

    label_smoothing: float = field(default=0.0, metadata=SHARE)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = smoothed(labels, self.label_smoothing)
        return F.binary_cross_entropy_with_logits(logits.float().squeeze(1), targets)

    def probability(self, logits: Tensor) -> Tensor:
        return unsmoothed(precise(logits).squeeze(1), self.label_smoothing).sigmoid()


@dataclass(frozen=True, kw_only=True)
class WeightedBce(Loss):
    """Binary cross-entropy in which a positive counts w = `positive_weight` times (null: the ratio of
    negatives to positives in the training split).

    The loss is least at the logit ln(w t / (1 - t)), where t is the mean of the smoothed targets:
    `probability` subtracts ln w and then undoes the smoothing."""

    positive_weight: float | None = field(default=None, metadata={"above": 0})
    label_smoothing: float = field(default=0.0, metadata=SHARE)

    def fitted(self, prevalence: float) -> Self:
        return replace(self, positive_weight=self.positive_weight or (1 - prevalence) / prevalence)

    @property
    def weight(self) -> float:
        """The weight of positives. AssertionError: the loss was not fitted and none is given."""
        assert self.positive_weight is not None, "the loss was not fitted to a training split"
        return self.positive_weight

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = smoothed(labels, self.label_smoothing)
        weight = torch.tensor(self.weight, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits.float().squeeze(1), targets, pos_weight=weight)

    def probability(self, logits: Tensor) -> Tensor:
        log_odds = precise(logits).squeeze(1) - math.log(self.weight)
        return unsmoothed(log_odds, self.label_smoothing).sigmoid()


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy on two logits (no pneumothorax, pneumothorax)."""

    n_outputs: ClassVar[int] = 2
    label_smoothing: float = field(default=0.0, metadata=SHARE)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels.long(), label_smoothing=self.label_smoothing)

    def probability(self, logits: Tensor) -> Tensor:
        negative, positive = precise(logits).unbind(dim=1)
        return unsmoothed(positive - negative, self.label_smoothing).sigmoid()


@dataclass(frozen=True, kw_only=True)
class Focal(Loss):
    """Focal loss, -a (1 - p)^g ln p (Lin et al. 2017, "Focal loss for dense object detection"), without
    the factor a when `alpha` is null. With gamma 0 and without alpha it is binary cross-entropy.

    The logit where the loss is least is not the log odds of the class; `probability` computes the class
    probability from the condition that the slope is zero there (Charoenphakdee et al. 2021, "On focal loss
    for class-posterior probability estimation")."""

    gamma: float = field(default=2.0, metadata={"at_least": 0})
    alpha: float | None = field(default=None, metadata={"above": 0, "below": 1})

    @property
    def class_weights(self) -> tuple[float, float]:
        """The weights of negatives and of positives."""
        return (1.0, 1.0) if self.alpha is None else (1 - self.alpha, self.alpha)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        logit = logits.float().squeeze(1)
        signed = torch.where(labels > 0.5, logit, -logit)
        negative, positive = self.class_weights
        weight = torch.where(labels > 0.5, positive, negative)
        return (weight * torch.sigmoid(-signed) ** self.gamma * F.softplus(-signed)).mean()

    def probability(self, logits: Tensor) -> Tensor:
        logit = precise(logits).squeeze(1)
        negative, positive = self.class_weights
        # the log of the loss's slope, for a positive at this logit and for a negative
        gap = self._log_slope(-logit) - self._log_slope(logit)
        return (gap + math.log(negative / positive)).sigmoid()

    def _log_slope(self, logit: Tensor) -> Tensor:
        """ln |d/dz (1 - p)^g ln p| at p = sigmoid(z): g ln(1 - p) + ln((1 - p) - g p ln p)."""
        p, log_p, log_q = logit.sigmoid(), F.logsigmoid(logit), F.logsigmoid(-logit)
        return self.gamma * log_q + torch.log((-logit).sigmoid() - self.gamma * p * log_p)


@dataclass(frozen=True, kw_only=True)
class Combined(Loss):
    """Binary cross-entropy and soft Dice over the batch, the report's "combined loss":
    (1 - w) BCE + w (1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1)).

    The Dice term is computed over the `fit.batch_size` images of a batch, in training and in validation: k
    accumulated batches are not one batch k times larger. It is not least at the share of positives, so that
    P(pneumothorax) is the sigmoid of the logit, with no correction for it or for the label smoothing."""

    is_mean_over_images: ClassVar[bool] = False

    dice_weight: float = field(default=0.5, metadata=SHARE)
    label_smoothing: float = field(default=0.0, metadata=SHARE)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        logit = logits.float().squeeze(1)
        bce = F.binary_cross_entropy_with_logits(logit, smoothed(labels, self.label_smoothing))
        p = logit.sigmoid()
        dice = (2 * (p * labels).sum() + 1) / (p.sum() + labels.sum() + 1)
        return (1 - self.dice_weight) * bce + self.dice_weight * (1 - dice)


def smoothed(labels: Tensor, smoothing: float) -> Tensor:
    """Returns labels (B,) moved from 0 and 1 to smoothing / 2 and 1 - smoothing / 2."""
    return labels.float() * (1 - smoothing) + smoothing / 2


def unsmoothed(log_odds: Tensor, smoothing: float) -> Tensor:
    """Returns the log odds of P(pneumothorax), of log odds that were trained on smoothed targets.

    Smoothing by s turns a label y into the target (1 - s) y + s / 2 (Szegedy et al. 2016, "Rethinking the
    Inception architecture"). If the share p of the images is positive, the mean target is q = (1 - s) p + s /
    2, and cross-entropy is least where the model predicts q: hence p = (q - s / 2) / (1 - s). A model may
    predict less than s / 2 or more than 1 - s / 2, where p would leave 0 to 1. The formula is therefore used
    for p from .001 to .999; outside, the log odds change as those of the model, and images keep their
    order."""
    if not smoothing:
        return log_odds
    p = ((log_odds.sigmoid() - smoothing / 2) / (1 - smoothing)).clamp(OUTERMOST, 1 - OUTERMOST)
    q_at_outermost = (1 - smoothing) * (1 - OUTERMOST) + smoothing / 2
    bound = math.log(q_at_outermost / (1 - q_at_outermost))
    return torch.logit(p) + (log_odds - log_odds.clamp(-bound, bound))


def precise(logits: Tensor) -> Tensor:
    """Returns the logits in float64 on the CPU, and in float32 elsewhere, since MPS has no float64."""
    return logits.double() if logits.device.type == "cpu" else logits.float()
