"""Loss and right answers of an epoch under way, and the watch on a loss that is no number."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pneumo.errors import NonFiniteLossError
from pneumo.training.state import Sums

STEPS_BETWEEN_CHECKS = 20  # of the loss for NaN: each one waits for the device


class LossMeter:
    """Adds loss and right answers of one process' batches to what it had before in this epoch. They stay on
    the device, which is waited for now and then, to see that the loss is finite."""

    def __init__(self, image_ids: np.ndarray, epoch: int, begun: Sequence[Sums]):
        self._image_ids, self._epoch = image_ids, epoch
        self._loss, self._right, self._images = total(begun)
        self._seen: list[tuple[np.ndarray, Tensor, Tensor, int]] = []
        self._checked = 0

    def add(self, rows: np.ndarray, loss: Tensor, right: Tensor, images: int) -> None:
        self._seen.append((rows, loss, right, images))
        if len(self._seen) >= STEPS_BETWEEN_CHECKS:
            self._settle()

    def sums(self) -> Sums:
        self._settle()
        return self._loss, self._right, self._images

    def _settle(self) -> None:
        if not self._seen:
            return
        losses = torch.stack([loss for _, loss, _, _ in self._seen]).tolist()
        rights = torch.stack([right for _, _, right, _ in self._seen]).tolist()
        for (rows, _, _, images), loss, right in zip(self._seen, losses, rights, strict=True):
            self._checked += 1
            if not np.isfinite(loss):
                ids = [str(name) for name in self._image_ids[rows]]
                raise NonFiniteLossError(
                    f"The loss is {loss} in epoch {self._epoch}, batch {self._checked}: "
                    f"images {', '.join(ids[:10])}{' ...' if len(ids) > 10 else ''}.\n"
                    "A lower optimizer.lr or fit.clip_norm=1 may help; fit.precision=fp32 tells whether the "
                    "precision is to blame."
                )
            self._loss += loss * images
            self._right += right
            self._images += images
        self._seen.clear()


def total(sums: Sequence[Sums]) -> Sums:
    loss, right, images = (sum(values) for values in zip((0.0, 0.0, 0.0), *sums, strict=True))
    return loss, right, images
