"""Schedules: the learning rate over time, and when to stop. Both look at the validation AUROC, never at
accuracy, which answering "no" always wins; at the same AUROC a lower validation loss is better."""

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from pneumo.errors import InputError


class LRController:
    """A schedule under way: told of every optimizer step, and whether an epoch is the best so far."""

    def __init__(
        self,
        per_step: LRScheduler | None = None,
        per_epoch: ReduceLROnPlateau | None = None,
        stop_patience: int | None = None,
    ):
        self._per_step, self._per_epoch, self._stop_patience = per_step, per_epoch, stop_patience
        self._epochs_since_best = 0

    def after_step(self) -> None:
        if self._per_step:
            self._per_step.step()

    def after_epoch(self, is_best: bool) -> bool:
        """True: stop now, `stop_patience` epochs have passed without a better one."""
        if self._per_epoch:
            self._per_epoch.best = 0.0  # we compare ourselves: torch's comparison cannot break ties
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
    """`stop_patience`: epochs without a better one before training stops; null: never."""

    stop_patience: int | None = None

    def __post_init__(self) -> None:
        if self.stop_patience is not None and self.stop_patience < 1:
            raise InputError(f"schedule.stop_patience must be at least 1, or null, got {self.stop_patience}")

    def __call__(self, optimizer: Optimizer, steps: int) -> LRController:
        """For an optimizer that already has its rate, over this many optimizer steps in all."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    def __call__(self, optimizer: Optimizer, steps: int) -> LRController:
        return LRController(stop_patience=self.stop_patience)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up from lr / 25 over `warmup_share` of the steps, then down to nothing, both by cosine
    (Smith & Topin 2018, "Super-convergence")."""

    warmup_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_warmup(self.warmup_share)

    def __call__(self, optimizer: Optimizer, steps: int) -> LRController:
        rate = LambdaLR(optimizer, lambda step: one_cycle(step / steps, self.warmup_share))
        return LRController(per_step=rate, stop_patience=self.stop_patience)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Linear warm-up over `warmup_share` of the steps, then down to nothing by cosine."""

    warmup_share: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_warmup(self.warmup_share)

    def __call__(self, optimizer: Optimizer, steps: int) -> LRController:
        # the first step is not at rate 0: it stands for its own share of the warm-up
        rate = LambdaLR(optimizer, lambda step: warm_cosine((step + 1) / (steps + 1), self.warmup_share))
        return LRController(per_step=rate, stop_patience=self.stop_patience)


@dataclass(frozen=True, kw_only=True)
class Plateau(Schedule):
    """The rate times `factor` after `plateau_patience` epochs without a better validation AUROC.
    `stop_patience` is longer, or training would end just when the rate drops (as the report's did)."""

    factor: float = 0.1
    plateau_patience: int = 5
    stop_patience: int | None = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.factor < 1:
            raise InputError(f"schedule.factor must lie between 0 and 1, got {self.factor}")
        if self.plateau_patience < 0:
            raise InputError(f"schedule.plateau_patience must not be negative, got {self.plateau_patience}")

    def __call__(self, optimizer: Optimizer, steps: int) -> LRController:
        rate = ReduceLROnPlateau(
            optimizer, mode="max", factor=self.factor, patience=self.plateau_patience, threshold=0
        )
        return LRController(per_epoch=rate, stop_patience=self.stop_patience)


def one_cycle(done: float, warmup: float) -> float:
    """Share of the peak rate when the share `done` of all steps is behind."""
    if done < warmup:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / warmup)) / 2
    return falling_cosine((done - warmup) / (1 - warmup))


def warm_cosine(done: float, warmup: float) -> float:
    """Share of the peak rate when the share `done` of all steps is behind."""
    return done / warmup if done < warmup else falling_cosine((done - warmup) / (1 - warmup))


def falling_cosine(done: float) -> float:
    """1 at 0, 0 at 1 and after."""
    return (1 + math.cos(math.pi * min(1.0, done))) / 2


def check_warmup(share: float) -> None:
    if not 0 <= share < 1:
        raise InputError(f"schedule.warmup_share must lie in [0, 1), got {share}")
