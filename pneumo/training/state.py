"""Everything that training changes: what a checkpoint holds, and the report of one epoch."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pneumo.components.models import Classifier
from pneumo.components.schedules import LRController
from pneumo.training.ema import ModelEma
from pneumo.training.predict import Predictions

KERNELS = ("fused", "foreach")  # of torch's optimizers: the device decides them
Sums = tuple[float, float, float]  # over images: loss, correct predictions, and their number


@dataclass
class EpochProgress:
    """Where an epoch was left: how many windows are done, and the sums over them."""

    windows: int = 0
    lr: float = 0.0  # at the epoch's beginning
    seconds: float = 0.0
    sums: list[Sums] = field(default_factory=list)  # one of every process, which goes on from its own

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """From a checkpoint; older ones have a single sum for all processes."""
        if "sums" in state:
            return cls(**state)
        sums = [(state["loss"], state["right"], state["images"])]
        return cls(state["windows"], state["lr"], state["seconds"], sums)


@dataclass
class TrainState:
    """One training under way; `state_dict` is what a checkpoint holds of it."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    lr_controller: LRController
    scaler: torch.amp.GradScaler
    micro_batch: int  # images at once: fewer than the batch where the memory does not hold it
    ema: ModelEma | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    progress: EpochProgress | None = None  # an epoch that is begun
    stopped: bool = False
    best_epoch: int = 0  # from 1; 0: none is finished
    abandoned: list[dict[str, float]] = field(default_factory=list)  # history of a first attempt, if given up

    def finish_epoch(self, metrics: dict[str, float]) -> bool:
        """Adds an epoch's metrics to the history. Returns whether it is the best so far: by a higher
        validation AUROC, or by a lower validation loss at the same AUROC."""
        best = self.history[self.best_epoch - 1] if self.history else None
        self.history.append(metrics)
        if best is None or _quality(metrics) > _quality(best):
            self.best_epoch = len(self.history)
        self.stopped = self.lr_controller.after_epoch(self.best_epoch == len(self.history))
        return self.best_epoch == len(self.history)

    def release(self) -> None:
        """Leaves the device's memory to another training; this one does not go on."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        for model in (self.model, self.ema.model if self.ema else self.model):
            model.to("cpu")

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and kept as the best: the moving average, if there is one."""
        return self.ema.model if self.ema else self.model

    @property
    def all_epochs(self) -> list[dict[str, float]]:
        """The metrics of all epochs, those of an abandoned attempt first; epoch i is step i + 1 in MLflow."""
        return [*self.abandoned, *self.history]

    def buffers(self) -> Iterator[Tensor]:
        """Statistics of the images that a process has seen; they differ between processes."""
        return chain(self.model.buffers(), self.ema.model.buffers() if self.ema else ())

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self._parts()},
            "micro_batch": self.micro_batch,
            "history": self.history,
            "within": asdict(self.progress) if self.progress else None,
            "stopped": self.stopped,
            "best_epoch": self.best_epoch,
            "abandoned": self.abandoned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a checkpoint, also of another device or precision: the optimizer keeps its own kernels,
        and where no loss was scaled, the loss scale is that of the beginning."""
        saved = {**state, "optimizer": with_kernels_of(self.optimizer, state["optimizer"])}
        for name, part in self._parts():
            if name != "scaler" or saved[name]:  # only fp16 has a loss scale
                part.load_state_dict(saved[name])
        self.micro_batch, self.history, self.stopped = (
            state[name] for name in ("micro_batch", "history", "stopped")
        )
        self.progress = EpochProgress.of(state["within"]) if state["within"] else None
        self.abandoned = state.get("abandoned", [])  # older checkpoints have none
        # older checkpoints kept the first epoch of the highest AUROC, whatever its loss
        self.best_epoch = state.get("best_epoch") or _first_highest_auroc(self.history)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """The parts that have a state of their own, by their names in a checkpoint."""
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "pace": self.lr_controller,
            "scaler": self.scaler,
            "average": self.ema,
        }
        return ((name, part) for name, part in parts.items() if part is not None)


def with_kernels_of(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state of an optimizer, with the choice of kernels of this one, which may be on another device.
    It is changed before it is loaded, since fused kernels need the number of steps on the device as well."""
    groups = [
        {**saved, **{name: own[name] for name in KERNELS if name in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def _quality(metrics: Mapping[str, float]) -> tuple[float, float]:
    return metrics["val/auroc"], -metrics["val/loss"]


def _first_highest_auroc(history: list[dict[str, float]]) -> int:
    return int(np.argmax([metrics["val/auroc"] for metrics in history])) + 1 if history else 0


@dataclass(frozen=True)
class EpochReport:
    """`epoch` from 1; `metrics` by their MLflow names; `predictions` of the validation split."""

    epoch: int
    metrics: dict[str, float]
    predictions: Predictions
    is_best: bool
