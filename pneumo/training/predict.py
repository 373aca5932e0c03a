"""Model and batches -> predictions, over named deterministic views of each image, averaged on logits."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pneumo.data.batches import Batches
from pneumo.errors import InputError

View = Callable[[Tensor], Tensor]


def zoomed(factor: float) -> View:
    """Magnifies (B, 1, H, W) about its centre, keeping its size."""

    def view(images: Tensor) -> Tensor:
        theta = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], device=images.device)
        count = images.shape[0]  # len(images) would freeze it in an exported graph
        grid = F.affine_grid(theta.expand(count, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    return view


def identity(images: Tensor) -> Tensor:
    return images


def mirrored(images: Tensor) -> Tensor:
    return images.flip(3)


def mirror_of(view: View) -> View:
    return lambda images: mirrored(view(images))


SCALES = [identity, zoomed(0.9), zoomed(1.1)]
VIEWS: dict[str, list[View]] = {
    "none": [identity],
    "hflip": [identity, mirrored],
    "scales": SCALES,
    "hflip_scales": [*SCALES, *map(mirror_of, SCALES)],
}


def views_of(name: str) -> list[View]:
    if name not in VIEWS:
        raise InputError(f"tta must be one of {', '.join(VIEWS)}, got {name!r}")
    return VIEWS[name]


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
class Viewer:
    """How a stored image reaches the model when it is evaluated."""

    prepare: View  # (B, 1, H, W) uint8 -> (B, 1, h, w) float in [0, 1]
    normalise: View
    precision: Callable[[], AbstractContextManager[object]]
    memory_format: torch.memory_format


def predict(
    model: nn.Module, batches: Batches, rows: np.ndarray, viewer: Viewer, batch_size: int, views: list[View]
) -> Tensor:
    """Mean logits (N, n_outputs) of these rows, on the CPU. Leaves the model in evaluation mode."""
    model.eval()
    seen = [mean_logits(model, batch.images, viewer, views) for batch in batches.of(rows, batch_size)]
    return torch.cat(seen).cpu()


@torch.inference_mode()
def mean_logits(model: nn.Module, images: Tensor, viewer: Viewer, views: list[View]) -> Tensor:
    """(B, 1, H, W) uint8 on the model's device -> (B, n_outputs): means over the views."""
    prepared = viewer.prepare(images)
    with viewer.precision():
        seen = [model(_laid(viewer.normalise(view(prepared)), viewer.memory_format)) for view in views]
    return torch.stack([s.float() for s in seen]).mean(dim=0)


def _laid(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    return images.contiguous(memory_format=memory_format)
