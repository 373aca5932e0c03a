"""Learning rate schedules and early stopping. Both depend on the validation AUROC, not on accuracy, which is
high for a model that predicts no pneumothorax at all; of equal AUROCs, the lower validation loss is
better."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pneumo.errors import check_settings

if TYPE_CHECKING:  # torch takes seconds to import, and a wrong value is refused before
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

SHARE = {"at_least": 0, "below": 1}


class LRController:
    """The schedule of one training. Call `after_step` after every optimizer step and `after_epoch` after
    every epoch, with whether it is the best so far."""

    def __init__(
        self,
        per_step: "LRScheduler | None" = None,
        per_epoch: "ReduceLROnPlateau | None" = None,
        stop_patience: int | None = None,
    ):
        self._per_step, self._per_epoch, self._stop_patience = per_step, per_epoch, stop_patience
        self._epochs_since_best = 0

    def after_step(self) -> None:
        if self._per_step:
            self._per_step.step()

    def after_epoch(self, is_best: bool) -> bool:
        """Returns whether to stop, because `stop_patience` epochs have passed without a better one."""
        if self._per_epoch:
            self._per_epoch.best = 0.0  # torch's own comparison cannot break ties
            self._per_epoch.step(float(is_best))
        self._epochs_since_best = 0 if is_best else self._epochs_since_best + 1
        return self._stop_patience is not None and self._epochs_since_best >= self._stop_patience

    def state_dict(self) -> dict[str, Any]:
        running = self._per_step or self._per_epoch
        return {
            "scheduler": running.state_dict() if running else None,
            "epochs_since_best": self._epochs_since_best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if running := self._per_step or self._per_epoch:
            running.load_state_dict(state["scheduler"])
        self._epochs_since_best = state["epochs_since_best"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Base class of the schedules. `stop_patience` is the number of epochs without a better one after which
    training stops; null means that it never stops early."""

    stop_patience: int | None = field(default=None, metadata={"at_least": 1})

    def __post_init__(self) -> None:
        check_settings("schedule", self)

    def __call__(self, optimizer: "Optimizer", steps: int) -> LRController:
        """Returns the controller of an optimizer, whose learning rate is the peak, for a number of steps."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same learning rate throughout."""

    def __call__(self, optimizer: "Optimizer", steps: int) -> LRController:
        return LRController(stop_patience=self.stop_patience)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """A rise from lr / 25 over the first `warmup_share` of the steps, then a fall to zero, both along a
    cosine (Smith & Topin 2018, "Super-convergence")."""

    warmup_share: float = field(default=0.3, metadata=SHARE)

    def __call__(self, optimizer: "Optimizer", steps: int) -> LRController:
        from torch.optim.lr_scheduler import LambdaLR

        rate = LambdaLR(optimizer, lambda step: one_cycle(step / steps, self.warmup_share))
        return LRController(per_step=rate, stop_patience=self.stop_patience)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """A linear warm-up over the first `warmup_share` of the steps, then a fall to zero along a cosine."""

    warmup_share: float = field(default=0.05, metadata=SHARE)

    def __call__(self, optimizer: "Optimizer", steps: int) -> LRController:
        from torch.optim.lr_scheduler import LambdaLR

        # counted from 1, so that the first step is not at rate 0
        rate = LambdaLR(optimizer, lambda step: warm_cosine((step + 1) / (steps + 1), self.warmup_share))
        return LRController(per_step=rate, stop_patience=self.stop_patience)


@dataclass(frozen=True, kw_only=True)
class Plateau(Schedule):
    """The learning rate is multiplied by `factor` after `plateau_patience` epochs without a better validation
    AUROC. `stop_patience` is longer, since training would otherwise end just when the rate drops."""

    factor: float = field(default=0.1, metadata={"above": 0, "below": 1})
    plateau_patience: int = field(default=5, metadata={"at_least": 0})
    stop_patience: int | None = 12

    def __call__(self, optimizer: "Optimizer", steps: int) -> LRController:
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        rate = ReduceLROnPlateau(
            optimizer, mode="max", factor=self.factor, patience=self.plateau_patience, threshold=0
        )
        return LRController(per_epoch=rate, stop_patience=self.stop_patience)


def one_cycle(done: float, warmup: float) -> float:
    """Returns the learning rate of `OneCycle` as a share of its peak, after a share `done` of all steps."""
    if done < warmup:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / warmup)) / 2
    return falling_cosine((done - warmup) / (1 - warmup))


def warm_cosine(done: float, warmup: float) -> float:
    """Returns the learning rate of `Cosine` as a share of its peak, after a share `done` of all steps."""
    return done / warmup if done < warmup else falling_cosine((done - warmup) / (1 - warmup))


def falling_cosine(done: float) -> float:
    """Returns a cosine that falls from 1 at `done` = 0 to 0 at 1, and stays there."""
    return (1 + math.cos(math.pi * min(1.0, done))) / 2
