"""What a model learns from: labelled inputs, made of images by the trainer or read from cached features."""

# B images of a batch, B' of them that have a label; N images in all, K augmented views of each, F features

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pneumo.data.batches import in_batches, to_device
from pneumo.training.device import Accelerator


@dataclass(frozen=True)
class Examples:
    """The images of a batch that have a label after augmentation."""

    inputs: Tensor  # (B', 1, h, w) normalised pixels, or (B', F) features of a frozen backbone
    labels: Tensor  # (B',) float
    masks: Tensor | None = None  # (B', 1, h, w) in [0, 1]: only where a mask head learns from them
    mask_known: Tensor | None = None  # (B',) bool: whether it is known where the image has a lesion, if any


@dataclass(frozen=True)
class FeatureBatch:
    """`rows` (B,) of the cohort, their `features` (B, 1 + K, F) and `labels` (B, 1 + K), on the device."""

    rows: np.ndarray
    features: Tensor  # view 0 is the plain image's
    labels: Tensor

    def part(self, at: slice) -> "FeatureBatch":
        return FeatureBatch(self.rows[at], self.features[at], self.labels[at])

    def examples(self, draws: Tensor) -> Examples:
        """One of the K views of each image, chosen by the first of its random numbers (B, n)."""
        n_views = self.labels.shape[1] - 1
        view = (draws[:, 0] * n_views).long() + min(n_views, 1)
        each = torch.arange(len(view), device=view.device)
        features, labels = self.features[each, view], self.labels[each, view]
        labelled = ~labels.isnan()
        return Examples(features[labelled], labels[labelled])


@dataclass(frozen=True)
class CachedFeatures:
    """What a frozen backbone makes of every image: as it is evaluated (view 0) and of K augmented views."""

    features: Tensor  # (N, 1 + K, F) float, on the device
    labels: Tensor  # (N, 1 + K) float, on the device: as relabelling left them, NaN for none
    accelerator: Accelerator

    def each(self, row_sets: Sequence[np.ndarray]) -> Iterator[FeatureBatch]:
        """A batch for every one of these arrays of rows."""
        for rows in row_sets:
            at = to_device(rows, self.features.device)
            yield FeatureBatch(rows, self.features[at], self.labels[at])

    @torch.inference_mode()
    def predict(self, model: nn.Module, rows: np.ndarray, batch_size: int) -> Tensor:
        """Logits (len(rows), n_outputs) of view 0, on the CPU. Leaves the model in evaluation mode."""
        model.eval()
        with self.accelerator.precision():
            logits = [model(batch.features[:, 0]) for batch in self.each(in_batches(rows, batch_size))]
        return torch.cat(logits).float().cpu()
