"""The training loop: a generator of one report an epoch. It knows nothing of where reports go.

B micro-batch; a window is `accumulation_steps` micro-batches, one optimizer step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pneumo import metrics
from pneumo.augment import Augment
from pneumo.data.batches import Batch, Batches
from pneumo.data.normalise import Normalise
from pneumo.data.split import Split
from pneumo.errors import InputError, NonFiniteLossError
from pneumo.infer import Predictions, View, Viewer, predict, views_of
from pneumo.losses import Loss
from pneumo.machine import Machine
from pneumo.models import Classifier
from pneumo.schedules import Pace

STEPS_BETWEEN_CHECKS = 20  # of the loss for NaN: each one waits for the device


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    epochs: int
    batch_size: int
    accumulation_steps: int = 1
    clip_norm: float | None = None
    precision: str = "auto"
    channels_last: bool = True
    device: str = "auto"
    test: bool = True
    pictures: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation_steps"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"fit.{name} must be at least 1, got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"fit.clip_norm must be above 0, or null, got {self.clip_norm}")

    @property
    def effective_batch(self) -> int:
        return self.batch_size * self.accumulation_steps


@dataclass
class Training:
    """Everything that training changes; its state is what a checkpoint holds."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    pace: Pace
    scaler: torch.amp.GradScaler
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False

    @property
    def best_epoch(self) -> int:
        """1-based, the first of equals."""
        return int(np.argmax([figures["val/auroc"] for figures in self.history])) + 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pace": self.pace.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part in ("model", "optimizer", "pace", "scaler"):
            getattr(self, part).load_state_dict(state[part])
        self.history, self.stopped = state["history"], state["stopped"]


@dataclass(frozen=True)
class EpochReport:
    """`epoch` from 1; `figures` by their MLflow names; `predictions` on the validation split."""

    epoch: int
    figures: dict[str, float]
    predictions: Predictions
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What stays the same from epoch to epoch."""

    settings: FitSettings
    machine: Machine
    loss: Loss
    augment: Augment
    normalise: Normalise
    batches: Batches
    split: Split
    image_ids: np.ndarray  # (N,) names of the cohort's rows, for errors
    seed: int

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.settings.channels_last else torch.contiguous_format

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.augment.evaluation, self.normalise, self.machine.precision, self.memory_format)

    def steps_per_epoch(self) -> int:
        return -(-len(self.split.train) // self.settings.effective_batch)

    def predict(self, model: Classifier, rows: np.ndarray, views: list[View]) -> Predictions:
        size = 2 * self.settings.batch_size  # no gradients: twice as many fit
        return predict(model, self.loss, self.batches, rows, self.viewer, size, views)

    def epochs(
        self, training: Training, on_batch: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[EpochReport]:
        """From where `training` stands to the last epoch, or until its schedule stops it.
        `on_batch(done, total)` is called as batches of all epochs finish.
        NonFiniteLossError: the loss was NaN or infinite."""
        while len(training.history) < self.settings.epochs and not training.stopped:
            epoch = len(training.history) + 1
            started = time.perf_counter()
            learning_rate = training.optimizer.param_groups[0]["lr"]
            train_figures = self.train_epoch(training, epoch, on_batch)
            predictions = self.predict(training.model, self.split.val, views_of("none"))
            if not np.isfinite(predictions.loss):
                raise NonFiniteLossError(f"The validation loss is {predictions.loss} after epoch {epoch}")
            val = {"loss": predictions.loss, **metrics.score(predictions.labels, predictions.scores)}
            training.history.append(
                {
                    **train_figures,
                    **{f"val/{name}": value for name, value in val.items()},
                    "lr": learning_rate,
                    "epoch_seconds": time.perf_counter() - started,
                }
            )
            training.stopped = training.pace.after_epoch(val["auroc"])
            yield EpochReport(epoch, training.history[-1], predictions, training.best_epoch == epoch)

    def train_epoch(
        self, training: Training, epoch: int, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """The order, the augmentation and dropout depend on seed and epoch alone."""
        order_seed, draws_seed, dropout_seed = np.random.SeedSequence([self.seed, epoch]).generate_state(3)
        train = self.split.train
        order = np.random.default_rng(order_seed).permutation(train)
        draws = self.augment.draw(len(order), torch.Generator().manual_seed(int(draws_seed)))
        torch.manual_seed(int(dropout_seed))

        started = time.perf_counter()
        training.model.train()
        tally = Tally(self.loss, self.image_ids, epoch)
        size, every = self.settings.batch_size, self.settings.accumulation_steps
        n_batches = -(-len(order) // size)
        decided = 0
        for number, batch in enumerate(self.batches.of(order, size)):
            in_window = min(every * size, len(order) - number // every * every * size)
            own_draws = draws[number * size : (number + 1) * size]
            decided += self.backward(training, batch, own_draws, in_window, tally, decided == 0)
            if (number + 1) % every == 0 or number + 1 == n_batches:
                if decided:
                    self.step(training, in_window / decided)
                training.pace.after_step()
                decided = 0
            on_batch((epoch - 1) * n_batches + number + 1, self.settings.epochs * n_batches)
        figures = tally.figures()
        return {**figures, "images_per_second": len(order) / (time.perf_counter() - started)}

    def backward(
        self, training: Training, batch: Batch, draws: Tensor, in_window: int, tally: "Tally", first: bool
    ) -> int:
        """Adds the gradient of the batch's share in the mean loss of a window of so many images; returns
        how many images of the batch have a label. `first`: nothing of the window has been added yet."""
        images, labels = self.augmented(batch, draws.to(self.machine.device))
        if not len(labels):
            return 0
        with self.machine.precision():
            logits = training.model(self.normalise(images).contiguous(memory_format=self.memory_format))
        loss = self.loss(logits, labels)
        if first:
            training.optimizer.zero_grad(set_to_none=True)
        training.scaler.scale(loss * (len(labels) / in_window)).backward()  # type: ignore[no-untyped-call]
        tally.add(batch.rows, loss.detach(), logits.detach(), labels)
        return len(labels)

    def augmented(self, batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B', 1, h, w) float and labels (B',): without those that relabelling leaves undecided."""
        images, labels = self.augment(batch.images, draws), batch.labels
        masked = np.flatnonzero(self.batches.store.has_mask[batch.rows])
        if self.augment.relabel and len(masked):
            survival = self.augment.surviving(self.batches.masks(batch.rows[masked]), draws[masked])
            labels = labels.clone()
            labels[masked] = self.augment.relabelled(labels[masked], survival)
            decided = ~labels.isnan()
            images, labels = images[decided], labels[decided]
        return images, labels

    def step(self, training: Training, correction: float) -> None:
        """One optimizer step; `correction` makes a mean over the images that have a label."""
        training.scaler.unscale_(training.optimizer)
        if correction != 1:
            gradients = [p.grad for p in training.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, correction)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(training.model.parameters(), self.settings.clip_norm)
        training.scaler.step(training.optimizer)
        training.scaler.update()


class Tally:
    """Loss and accuracy of an epoch's training batches, kept on the device; waits for it now and then to
    see that the loss is finite."""

    def __init__(self, loss: Loss, image_ids: np.ndarray, epoch: int):
        self._loss, self._image_ids, self._epoch = loss, image_ids, epoch
        self._rows: list[np.ndarray] = []
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []
        self._sizes: list[int] = []
        self._checked = 0

    def add(self, rows: np.ndarray, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._rows.append(rows)
        self._losses.append(loss)
        self._right.append(((self._loss.probability(logits) >= 0.5) == (labels > 0.5)).sum())
        self._sizes.append(len(labels))
        if len(self._losses) - self._checked >= STEPS_BETWEEN_CHECKS:
            self._check()

    def figures(self) -> dict[str, float]:
        self._check()
        sizes = np.array(self._sizes)
        losses = torch.stack(self._losses).cpu().numpy()
        return {
            "train/loss": float((losses * sizes).sum() / sizes.sum()),
            "train/accuracy": float(torch.stack(self._right).sum()) / float(sizes.sum()),
        }

    def _check(self) -> None:
        new = self._losses[self._checked :]
        finite = torch.stack(new).isfinite().cpu().numpy() if new else np.array([True])
        if not finite.all():
            number = self._checked + int(np.argmin(finite))
            ids = [str(name) for name in self._image_ids[self._rows[number]]]
            raise NonFiniteLossError(
                f"The loss is {float(self._losses[number])} in epoch {self._epoch}, batch {number + 1}: "
                f"images {', '.join(ids[:10])}{' ...' if len(ids) > 10 else ''}.\n"
                "A lower optimizer.lr or fit.clip_norm=1 may help; fit.precision=fp32 tells whether the "
                "precision is to blame."
            )
        self._checked = len(self._losses)
