"""Everything that training changes."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pneumo.components.models import Classifier
from pneumo.components.schedules import Pace
from pneumo.training.ema import Average
from pneumo.training.predict import Predictions

Sums = tuple[float, float, float]  # loss, right answers and number, over images


@dataclass
class Within:
    """Where an epoch was left: windows that are done, and what they came to."""

    windows: int = 0
    lr: float = 0.0  # at the epoch's beginning
    seconds: float = 0.0
    sums: list[Sums] = field(default_factory=list)  # one of every process, which goes on from its own

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Older checkpoints have a single sum for all processes."""
        if "sums" in state:
            return cls(**state)
        sums = [(state["loss"], state["right"], state["images"])]
        return cls(state["windows"], state["lr"], state["seconds"], sums)


@dataclass
class Training:
    """Its state is what a checkpoint holds."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    pace: Pace
    scaler: torch.amp.GradScaler
    micro_batch: int  # images at once: fewer than the batch where the memory does not hold it
    average: Average | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    within: Within | None = None  # an epoch that is begun
    stopped: bool = False
    best_epoch: int = 0  # from 1; 0: none is finished

    def finish_epoch(self, figures: dict[str, float]) -> bool:
        """Adds an epoch's figures to the history. True: it is the best so far, by a higher validation AUROC,
        or by a lower validation loss at the same AUROC."""
        best = self.history[self.best_epoch - 1] if self.history else None
        self.history.append(figures)
        if best is None or _quality(figures) > _quality(best):
            self.best_epoch = len(self.history)
        self.stopped = self.pace.after_epoch(self.best_epoch == len(self.history))
        return self.best_epoch == len(self.history)

    @property
    def evaluated(self) -> nn.Module:
        """What is judged and kept as the best."""
        return self.average.model if self.average else self.model

    def buffers(self) -> Iterator[Tensor]:
        """Statistics of the images that a process has seen, so every process has its own."""
        return chain(self.model.buffers(), self.average.model.buffers() if self.average else ())

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self._parts()},
            "micro_batch": self.micro_batch,
            "history": self.history,
            "within": asdict(self.within) if self.within else None,
            "stopped": self.stopped,
            "best_epoch": self.best_epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts():
            part.load_state_dict(state[name])
        self.micro_batch, self.history, self.stopped = (
            state[name] for name in ("micro_batch", "history", "stopped")
        )
        self.within = Within.of(state["within"]) if state["within"] else None
        # older checkpoints kept the first epoch of the highest AUROC, whatever its loss
        self.best_epoch = state.get("best_epoch") or _first_highest_auroc(self.history)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for name in ("model", "optimizer", "pace", "scaler", "average"):
            if (part := getattr(self, name)) is not None:
                yield name, part


def _quality(figures: Mapping[str, float]) -> tuple[float, float]:
    return figures["val/auroc"], -figures["val/loss"]


def _first_highest_auroc(history: list[dict[str, float]]) -> int:
    return int(np.argmax([figures["val/auroc"] for figures in history])) + 1 if history else 0


@dataclass(frozen=True)
class EpochReport:
    """`epoch` from 1; `figures` by their MLflow names; `predictions` on the validation split."""

    epoch: int
    figures: dict[str, float]
    predictions: Predictions
    is_best: bool
