"""Loss and right answers of an epoch under way, and the watch on a loss that is no number."""

import numpy as np
import torch
from torch import Tensor

from pneumo.errors import NonFiniteLossError
from pneumo.losses import Loss
from pneumo.processes import Processes
from pneumo.training import Within

STEPS_BETWEEN_CHECKS = 20  # of the loss for NaN: each one waits for the device


class Tally:
    """Adds loss and right answers of an epoch's training batches to `within`. They stay on the device,
    which is waited for now and then, to see that the loss is finite."""

    def __init__(self, loss: Loss, image_ids: np.ndarray, epoch: int, within: Within):
        self._loss, self._image_ids, self._epoch, self._within = loss, image_ids, epoch, within
        self._seen: list[tuple[np.ndarray, Tensor, Tensor, int]] = []
        self._checked = 0

    def add(self, rows: np.ndarray, loss: Tensor, right: Tensor, images: int) -> None:
        self._seen.append((rows, loss, right, images))
        if len(self._seen) >= STEPS_BETWEEN_CHECKS:
            self._settle()

    def merge(self, processes: Processes) -> None:
        """The first process' `within` has all, the others' none."""
        self._settle()
        if processes.count == 1:
            return
        within = self._within
        sums = processes.gathered((within.loss, within.right, within.images))
        totals = [sum(values) if processes.is_first else 0.0 for values in zip(*sums, strict=True)]
        within.loss, within.right, within.images = totals

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
            self._within.loss += loss * images
            self._within.right += right
            self._within.images += images
        self._seen.clear()
