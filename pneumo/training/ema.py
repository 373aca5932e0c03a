"""A moving average of a network's weights: steadier than the last step's (Polyak & Juditsky 1992)."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn


class ModelEma:
    """`model` has the exponential moving average of all floating weights and statistics. The first steps
    count more than `decay` says, min(decay, (1 + n) / (10 + n)), as in Inception's training (Szegedy et al.
    2016): else a short training would keep its random beginning. torch's AveragedModel copies the first step
    instead of averaging it, which would change the weights of every seed, and it wraps the model."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = deepcopy(model).requires_grad_(False)
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Averages in the model's weights after an optimizer step; integers are copied."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        averaged, current = [], []
        for own, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if own.is_floating_point():
                averaged.append(own)
                current.append(new)
            else:
                own.copy_(new)
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._updates = state["updates"]
