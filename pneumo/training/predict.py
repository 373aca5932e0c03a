"""Predictions of a model, averaged on logits over named deterministic transforms of each image (TTA)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pneumo.components.losses import Loss
from pneumo.data.batches import Batches
from pneumo.errors import InputError

TtaTransform = Callable[[Tensor], Tensor]


def zoom(factor: float) -> TtaTransform:
    """Magnifies (B, 1, H, W) about its centre, keeping its size."""

    def transform(images: Tensor) -> Tensor:
        theta = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], device=images.device)
        count = images.shape[0]  # len(images) would freeze it in an exported graph
        grid = F.affine_grid(theta.expand(count, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    return transform


def identity(images: Tensor) -> Tensor:
    return images


def hflip(images: Tensor) -> Tensor:
    return images.flip(3)


def then_hflip(transform: TtaTransform) -> TtaTransform:
    return lambda images: hflip(transform(images))


SCALES = [identity, zoom(0.9), zoom(1.1)]
TTA: dict[str, list[TtaTransform]] = {
    "none": [identity],
    "hflip": [identity, hflip],
    "scales": SCALES,
    "hflip_scales": [*SCALES, *map(then_hflip, SCALES)],
}


def tta_transforms(name: str) -> list[TtaTransform]:
    """The transforms of a name of TTA. InputError: there is no such name."""
    if name not in TTA:
        raise InputError(f"tta must be one of {', '.join(TTA)}, got {name!r}")
    return TTA[name]


@dataclass(frozen=True)
class Predictions:
    """For each of `rows` (N,) of the cohort: its `labels`, mean `logits` (N, n_outputs), and `scores` (N,)
    = P(pneumothorax); `loss` over all of them."""

    rows: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    scores: np.ndarray
    loss: float


@dataclass(frozen=True)
class EvalTransform:
    """How a stored image reaches the model when it is evaluated."""

    prepare: TtaTransform  # (B, 1, H, W) uint8 -> (B, 1, h, w) float in [0, 1]
    normalise: TtaTransform
    precision: Callable[[], AbstractContextManager[object]]
    memory_format: torch.memory_format


def predict(
    model: nn.Module,
    batches: Batches,
    rows: np.ndarray,
    eval_transform: EvalTransform,
    batch_size: int,
    transforms: list[TtaTransform],
) -> Tensor:
    """Mean logits (N, n_outputs) of these rows, on the CPU. Leaves the model in evaluation mode."""
    model.eval()
    logits = [
        mean_logits(model, batch.images, eval_transform, transforms) for batch in batches.of(rows, batch_size)
    ]
    return torch.cat(logits).cpu()


def scores_of(loss: Loss, logits: Tensor) -> np.ndarray:
    """(N, n_outputs) logits -> (N,) P(pneumothorax), equal where logits are: a vectorised sigmoid differs in
    its last bit by position, which would break ties."""
    distinct, number = torch.unique(logits, dim=0, return_inverse=True)
    return loss.probability(distinct)[number].numpy()


@torch.inference_mode()
def mean_logits(
    model: nn.Module, images: Tensor, eval_transform: EvalTransform, transforms: list[TtaTransform]
) -> Tensor:
    """(B, 1, H, W) uint8 on the model's device -> (B, n_outputs): means over the transforms."""
    prepared = eval_transform.prepare(images)
    with eval_transform.precision():
        inputs = (eval_transform.normalise(transform(prepared)) for transform in transforms)
        logits = [model(images.contiguous(memory_format=eval_transform.memory_format)) for images in inputs]
    return torch.stack([one.float() for one in logits]).mean(dim=0)
