"""Optimizers: each is called with a model and the effective batch size, and returns a torch optimizer that
holds every trainable parameter once."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pneumo.errors import InputError, check_settings

if TYPE_CHECKING:  # torch takes seconds to import, and a wrong value is refused before
    from torch import nn, optim

SHARE = {"at_least": 0, "below": 1}


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of all optimizers. `lr` is the learning rate at an effective batch of `reference_batch`
    images, and `scale_lr` how it changes with the effective batch."""

    lr: float = field(metadata={"above": 0})
    weight_decay: float = field(metadata={"at_least": 0})
    scale_lr: str = field(default="none", metadata={"one_of": ("none", "linear", "sqrt")})
    reference_batch: int = field(default=16, metadata={"at_least": 1})

    def __post_init__(self) -> None:
        check_settings("optimizer", self)

    def resolved_lr(self, effective_batch: int) -> float:
        """Returns the learning rate for an effective batch, which is `lr` times the ratio of the batches
        (Goyal et al. 2017, for SGD) or its square root (Malladi et al. 2022, for Adam)."""
        ratio = effective_batch / self.reference_batch
        return self.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.scale_lr]

    def __call__(self, model: "nn.Module", effective_batch: int) -> "optim.Optimizer":
        """Returns the optimizer of a model's trainable parameters."""
        raise NotImplementedError

    def groups(self, model: "nn.Module") -> list[dict[str, object]]:
        """Returns torch's parameter groups: norms and biases, which have fewer than two dimensions, have no
        weight decay."""
        trainable = [p for p in model.parameters() if p.requires_grad]
        groups: list[dict[str, object]] = [
            {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]


@dataclass(frozen=True, kw_only=True)
class Sgd(OptimizerConfig):
    """Stochastic gradient descent with momentum. InputError: `nesterov` without momentum."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = field(default=0.9, metadata=SHARE)
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise InputError("optimizer.nesterov=true needs a momentum above 0, got optimizer.momentum=0")

    def __call__(self, model: "nn.Module", effective_batch: int) -> "optim.Optimizer":
        from torch import optim

        lr = self.resolved_lr(effective_batch)
        return optim.SGD(self.groups(model), lr, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay."""

    lr: float = 3e-3
    weight_decay: float = 0.01
    beta1: float = field(default=0.9, metadata=SHARE)
    beta2: float = field(default=0.999, metadata=SHARE)

    def __call__(self, model: "nn.Module", effective_batch: int) -> "optim.Optimizer":
        from torch import optim

        lr = self.resolved_lr(effective_batch)
        betas = (float(self.beta1), float(self.beta2))
        # one kernel a step on a GPU: many small ones take longer, and in float16 they wait for the device; a
        # fused SGD is no alternative, since it loses its momentum in the steps that float16 skips
        fused = all(p.is_cuda for p in model.parameters()) or None
        return optim.AdamW(self.groups(model), lr, betas=betas, fused=fused)
