"""The metrics of an epoch, which are logged after each one, and the sums that those of training come from."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pneumo.errors import NonFiniteLossError
from pneumo.evaluation.metrics import compute_metrics
from pneumo.training.predict import Predictions
from pneumo.training.state import Sums

FIRST = ("val/auroc", "val/loss", "train/loss")  # MLflow's page of a run lists metrics as they are logged
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


def train_metrics(sums: Sequence[Sums], lr: float, n_images: int, seconds: float) -> dict[str, float]:
    """The metrics of an epoch's training by their MLflow names; `sums` of all processes."""
    loss, correct, labelled = total(sums)
    return {
        "train/loss": loss / max(labelled, 1),
        "train/accuracy": correct / max(labelled, 1),
        "images_per_second": n_images / seconds,
        "lr": lr,
    }


def epoch_metrics(train: Mapping[str, float], val: Predictions, seconds: float) -> dict[str, float]:
    """All metrics of an epoch by their MLflow names. What is added here is logged after each epoch."""
    on_val = {"loss": val.loss, **compute_metrics(val.labels, val.scores)}
    metrics = {
        **train,
        **{f"val/{name}": value for name, value in on_val.items()},
        "epoch_seconds": seconds,
    }
    return {**{name: metrics[name] for name in FIRST}, **metrics}
