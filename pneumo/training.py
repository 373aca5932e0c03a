"""Everything that training changes."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from pneumo.average import Average
from pneumo.models import Classifier
from pneumo.schedules import Pace


@dataclass
class Within:
    """Where an epoch was left: windows that are done, and what they came to."""

    windows: int = 0
    lr: float = 0.0  # at the epoch's beginning
    seconds: float = 0.0
    loss: float = 0.0  # summed over the images
    right: float = 0.0
    images: float = 0.0


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

    @property
    def best_epoch(self) -> int:
        """1-based, the first of equals."""
        return int(np.argmax([figures["val/auroc"] for figures in self.history])) + 1

    @property
    def evaluated(self) -> nn.Module:
        """What is judged and kept as the best."""
        return self.average.model if self.average else self.model

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self._parts()},
            "micro_batch": self.micro_batch,
            "history": self.history,
            "within": asdict(self.within) if self.within else None,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts():
            part.load_state_dict(state[name])
        self.micro_batch, self.history, self.stopped = (
            state[name] for name in ("micro_batch", "history", "stopped")
        )
        self.within = Within(**state["within"]) if state["within"] else None

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for name in ("model", "optimizer", "pace", "scaler", "average"):
            if (part := getattr(self, name)) is not None:
                yield name, part
