"""Losses: each takes logits (B, n_outputs) and labels (B,) in {0, 1}, gives the mean over the batch,
and turns its own logits into P(pneumothorax), the one score that every metric is computed from."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.errors import InputError

OUTERMOST = 1e-3  # P to which label smoothing is undone exactly, and 1 - this


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What all losses share; a subclass says how many outputs it needs."""

    n_outputs: ClassVar[int] = 1
    is_mean_over_images: ClassVar[bool] = True  # False: it depends on which images share a batch

    def fitted(self, prevalence: float) -> Self:
        """This loss for a training split with this share of positives."""
        return self

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def of_many(self, logits: Tensor, labels: Tensor, batch_size: int) -> Tensor:
        """The loss of (N, n_outputs) logits and (N,) labels, comparable with training's: where it depends on
        the batch, the mean over shuffled batches of `batch_size`."""
        if self.is_mean_over_images:
            return self(logits, labels)
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        losses = [self(logits[rows], labels[rows]) * len(rows) for rows in torch.split(shuffled, batch_size)]
        return torch.stack(losses).sum() / len(labels)

    def probability(self, logits: Tensor) -> Tensor:
        """(B, n_outputs) logits -> (B,) P(pneumothorax); float64 on the CPU, where every score is made."""
        return precise(logits).squeeze(1).sigmoid()


@dataclass(frozen=True, kw_only=True)
class Bce(Loss):
    """Binary cross-entropy on one logit. Smoothing moves the targets 0, 1 to s/2, 1 - s/2, and `probability`
    takes that off again."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_share("loss.label_smoothing", self.label_smoothing)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = smoothed(labels, self.label_smoothing)
        return F.binary_cross_entropy_with_logits(logits.float().squeeze(1), targets)

    def probability(self, logits: Tensor) -> Tensor:
        return unsmoothed(precise(logits).squeeze(1), self.label_smoothing).sigmoid()


@dataclass(frozen=True, kw_only=True)
class WeightedBce(Loss):
    """Binary cross-entropy with positives counted `positive_weight` times (null: negatives / positives
    of the training split). Its optimum is at the logit ln(w t / (1 - t)), where t is the mean of the
    smoothed targets, so ln w is taken off again, and then the smoothing."""

    positive_weight: float | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_share("loss.label_smoothing", self.label_smoothing)
        if self.positive_weight is not None and not self.positive_weight > 0:
            raise InputError(f"loss.positive_weight must be above 0, got {self.positive_weight}")

    def fitted(self, prevalence: float) -> Self:
        return replace(self, positive_weight=self.positive_weight or (1 - prevalence) / prevalence)

    @property
    def weight(self) -> float:
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
    """Softmax cross-entropy on two logits (no pneumothorax, pneumothorax): the report's loss."""

    n_outputs: ClassVar[int] = 2
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_share("loss.label_smoothing", self.label_smoothing)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels.long(), label_smoothing=self.label_smoothing)

    def probability(self, logits: Tensor) -> Tensor:
        negative, positive = precise(logits).unbind(dim=1)
        return unsmoothed(positive - negative, self.label_smoothing).sigmoid()


@dataclass(frozen=True, kw_only=True)
class Focal(Loss):
    """Focal loss, -a (1 - p)^g ln p (Lin et al. 2017, "Focal loss for dense object detection"), without
    the factor a when `alpha` is null. gamma 0 without alpha is binary cross-entropy.

    Its optimum is not the class probability; `probability` solves its stationary condition for it
    (Charoenphakdee et al. 2021, "On focal loss for class-posterior probability estimation")."""

    gamma: float = 2.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise InputError(f"loss.gamma must not be negative, got {self.gamma}")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise InputError(f"loss.alpha must lie between 0 and 1, or be null, got {self.alpha}")

    @property
    def class_weights(self) -> tuple[float, float]:
        """(negative, positive)"""
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

    The Dice term is over the `fit.batch_size` images of a batch, in training and in validation alike: k
    accumulated batches are not one batch k times larger. Its least value is not at the share of positives, so
    that neither it nor the smoothing beside it is taken off P(pneumothorax)."""

    is_mean_over_images: ClassVar[bool] = False

    dice_weight: float = 0.5
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_share("loss.label_smoothing", self.label_smoothing)
        check_share("loss.dice_weight", self.dice_weight)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        logit = logits.float().squeeze(1)
        bce = F.binary_cross_entropy_with_logits(logit, smoothed(labels, self.label_smoothing))
        p = logit.sigmoid()
        dice = (2 * (p * labels).sum() + 1) / (p.sum() + labels.sum() + 1)
        return (1 - self.dice_weight) * bce + self.dice_weight * (1 - dice)


def smoothed(labels: Tensor, smoothing: float) -> Tensor:
    return labels.float() * (1 - smoothing) + smoothing / 2


def unsmoothed(log_odds: Tensor, smoothing: float) -> Tensor:
    """Log odds of P(pneumothorax), from the log odds that cross-entropy with smoothed targets is least at.

    Smoothing by s makes of a label y the target (1 - s) y + s / 2 (Szegedy et al. 2016, "Rethinking the
    Inception architecture"). Among images of which the share p is positive its mean is q = (1 - s) p + s / 2,
    and cross-entropy is least where the model answers q: hence p = (q - s / 2) / (1 - s). A model may answer
    below s / 2 or above 1 - s / 2, where p would leave 0 to 1. So this holds for p from .001 to .999; further
    out the log odds move as the model's own do, and images keep their order."""
    if not smoothing:
        return log_odds
    p = ((log_odds.sigmoid() - smoothing / 2) / (1 - smoothing)).clamp(OUTERMOST, 1 - OUTERMOST)
    q_at_outermost = (1 - smoothing) * (1 - OUTERMOST) + smoothing / 2
    bound = math.log(q_at_outermost / (1 - q_at_outermost))
    return torch.logit(p) + (log_odds - log_odds.clamp(-bound, bound))


def precise(logits: Tensor) -> Tensor:
    """In float64 on the CPU; in float32 elsewhere, since MPS has no float64."""
    return logits.double() if logits.device.type == "cpu" else logits.float()


def check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(f"{name} must lie in [0, 1), got {value}")
