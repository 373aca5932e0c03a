"""Optimizers: each takes a model and the effective batch, and owns every trainable parameter once."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from pneumo.errors import InputError

SCALINGS = ("none", "linear", "sqrt")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """`lr` as given holds for an effective batch of `reference_batch`; `scale_lr` says how it follows."""

    lr: float
    weight_decay: float
    scale_lr: str = "none"
    reference_batch: int = 16

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"optimizer.lr must be above 0, got {self.lr}")
        if self.weight_decay < 0:
            raise InputError(f"optimizer.weight_decay must not be negative, got {self.weight_decay}")
        if self.reference_batch < 1:
            raise InputError(f"optimizer.reference_batch must be at least 1, got {self.reference_batch}")
        if self.scale_lr not in SCALINGS:
            known = ", ".join(SCALINGS)
            raise InputError(f"optimizer.scale_lr must be one of {known}, got {self.scale_lr!r}")

    def resolved_lr(self, effective_batch: int) -> float:
        """The rate for this effective batch: times the ratio of batches (Goyal et al. 2017, SGD), or its
        square root (Malladi et al. 2022, Adam)."""
        ratio = effective_batch / self.reference_batch
        return self.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.scale_lr]

    def __call__(self, model: nn.Module, effective_batch: int) -> torch.optim.Optimizer:
        raise NotImplementedError

    def groups(self, model: nn.Module) -> list[dict[str, object]]:
        """Weights decay; norms and biases (everything of fewer than two dimensions) do not."""
        trainable = [p for p in model.parameters() if p.requires_grad]
        groups: list[dict[str, object]] = [
            {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]


@dataclass(frozen=True, kw_only=True)
class Sgd(OptimizerConfig):
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False

    def __call__(self, model: nn.Module, effective_batch: int) -> torch.optim.Optimizer:
        lr = self.resolved_lr(effective_batch)
        return torch.optim.SGD(self.groups(model), lr, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerConfig):
    lr: float = 3e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999

    def __call__(self, model: nn.Module, effective_batch: int) -> torch.optim.Optimizer:
        lr = self.resolved_lr(effective_batch)
        return torch.optim.AdamW(self.groups(model), lr, betas=(self.beta1, self.beta2))
