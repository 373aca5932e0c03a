"""Sums loss and correct predictions over an epoch, and stops a training whose loss is not finite."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pneumo.errors import NonFiniteLossError
from pneumo.training.state import Sums

STEPS_BETWEEN_CHECKS = 20  # of the loss for NaN: each one waits for the device


class LossMeter:
    """Adds the batches of one process to the sums it had before in this epoch. Values stay on the device,
    which is waited for every STEPS_BETWEEN_CHECKS batches. NonFiniteLossError: a loss was NaN or infinite."""

    def __init__(self, image_ids: np.ndarray, epoch: int, before: Sequence[Sums]):
        self._image_ids, self._epoch = image_ids, epoch
        self._loss, self._correct, self._images = total(before)
        self._pending: list[tuple[np.ndarray, Tensor, Tensor, int]] = []
        self._checked = 0

    def add(self, rows: np.ndarray, loss: Tensor, correct: Tensor, images: int) -> None:
        """A batch's rows, mean loss, number of correct predictions and number of labelled images."""
        self._pending.append((rows, loss, correct, images))
        if len(self._pending) >= STEPS_BETWEEN_CHECKS:
            self._settle()

    def sums(self) -> Sums:
        self._settle()
        return self._loss, self._correct, self._images

    def _settle(self) -> None:
        if not self._pending:
            return
        losses = torch.stack([loss for _, loss, _, _ in self._pending]).tolist()
        corrects = torch.stack([correct for _, _, correct, _ in self._pending]).tolist()
        for (rows, _, _, images), loss, correct in zip(self._pending, losses, corrects, strict=True):
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
            self._correct += correct
            self._images += images
        self._pending.clear()


def total(sums: Sequence[Sums]) -> Sums:
    """The sums of all processes together."""
    loss, correct, images = (sum(values) for values in zip((0.0, 0.0, 0.0), *sums, strict=True))
    return loss, correct, images
