"""The training loop: a generator of one report an epoch. It knows nothing of where reports go.

B micro-batch; a window is `accumulation_steps` micro-batches of every process, one optimizer step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pneumo.components.augment import Augment
from pneumo.components.losses import Loss
from pneumo.components.mask_head import mask_loss
from pneumo.data.batches import Batch, Batches, in_batches
from pneumo.data.normalise import Normalise
from pneumo.data.sampling import falling, with_share
from pneumo.data.split import Split
from pneumo.errors import NonFiniteLossError, TooLittleMemoryError
from pneumo.evaluation import metrics
from pneumo.training.device import Machine, is_out_of_memory
from pneumo.training.distributed import ALONE, Processes
from pneumo.training.meter import Tally, total
from pneumo.training.predict import Predictions, View, Viewer, predict, views_of
from pneumo.training.settings import FitSettings
from pneumo.training.state import EpochReport, Training, Within


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
    processes: Processes = ALONE

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.settings.channels_last else torch.contiguous_format

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.augment.evaluation, self.normalise, self.machine.precision, self.memory_format)

    @property
    def effective_batch(self) -> int:
        return self.settings.effective_batch * self.processes.count

    def steps_per_epoch(self) -> int:
        return -(-len(self.split.train) // self.effective_batch)

    def predict(self, model: nn.Module, rows: np.ndarray, views: list[View]) -> Predictions:
        """Each process sees its share of the rows; all get the whole."""
        size = 2 * self.settings.batch_size  # no gradients: twice as many fit
        mine = self.processes.share(rows)
        logits = torch.empty(0, self.loss.n_outputs)
        while len(mine):
            try:
                logits = predict(model, self.batches, mine, self.viewer, size, views)
                break
            except (RuntimeError, MemoryError) as error:
                self._too_large(size, error)
            size = -(-size // 2)
            self.machine.forget()
        whole = torch.empty(len(rows), self.loss.n_outputs)
        for rank, part in enumerate(self.processes.gathered(logits)):
            whole[rank :: self.processes.count] = part
        labels = self.batches.labels(rows)
        return Predictions(
            rows=rows,
            labels=labels.numpy().astype(int),
            logits=whole.numpy(),
            scores=self.loss.probability(whole).numpy(),
            loss=float(self.loss.of_many(whole, labels, self.settings.batch_size)),
        )

    def epochs(
        self,
        training: Training,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[Training], None] = lambda training: None,
    ) -> Iterator[EpochReport]:
        """From where `training` stands to the last epoch, or until its schedule stops it.
        `on_batch(done, total)` is called as batches of all epochs finish, `keep` within an epoch every
        `checkpoint_minutes`. NonFiniteLossError: the loss was NaN or infinite. TooLittleMemoryError: not
        even one image fits."""
        while len(training.history) < self.settings.epochs and not training.stopped:
            epoch = len(training.history) + 1
            before = training.within.seconds if training.within else 0.0
            started = time.perf_counter()
            train_figures = self.train_epoch(training, epoch, on_batch, keep)
            predictions = self.predict(training.evaluated, self.split.val, views_of("none"))
            if not np.isfinite(predictions.loss):
                raise NonFiniteLossError(f"The validation loss is {predictions.loss} after epoch {epoch}")
            val = {"loss": predictions.loss, **metrics.score(predictions.labels, predictions.scores)}
            figures = self.processes.said_by_first(
                {
                    **train_figures,
                    **{f"val/{name}": value for name, value in val.items()},
                    "micro_batch": training.micro_batch,
                    "epoch_seconds": before + time.perf_counter() - started,
                }
            )
            yield EpochReport(epoch, figures, predictions, training.finish_epoch(figures))

    def train_epoch(
        self,
        training: Training,
        epoch: int,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[Training], None] = lambda training: None,
    ) -> dict[str, float]:
        """The order and the augmentation depend on seed and epoch alone; dropout also on window and
        process."""
        order_seed, draws_seed = np.random.SeedSequence([self.seed, epoch]).generate_state(2)
        order = self.order(epoch, np.random.default_rng(order_seed))
        draws = self.augment.draw(len(order), torch.Generator().manual_seed(int(draws_seed)))
        windows = in_batches(np.arange(len(order)), self.effective_batch)
        mine = [self.processes.share(in_batches(window, self.settings.batch_size)) for window in windows]

        started = time.perf_counter()
        training.model.train()
        within = training.within or Within(lr=training.optimizer.param_groups[0]["lr"])
        before, kept = within.seconds, started
        tally = Tally(self.image_ids, epoch, self.processes.share(within.sums))
        coming = self.batches.each([order[at] for window in mine[within.windows :] for at in window])
        for number in range(within.windows, len(windows)):
            torch.manual_seed(_seed(self.seed, epoch, number, self.processes.rank))
            batches = [(next(coming), draws[at]) for at in mine[number]]
            decided = self.gradients(training, batches, len(windows[number]), tally)
            minutes = (time.perf_counter() - kept) / 60
            due = self.settings.checkpoint_minutes is not None and minutes >= self.settings.checkpoint_minutes
            together = torch.tensor([decided, due and self.processes.is_first], device=self.machine.device)
            self.processes.sum([together])
            decided, due = together.tolist() if self.processes.count > 1 else (decided, due)
            if decided:
                self.step(training, len(windows[number]) / decided)
            training.pace.after_step()
            within.windows = number + 1
            on_batch((epoch - 1) * len(windows) + number + 1, self.settings.epochs * len(windows))
            if due and within.windows < len(windows):
                self.agree(training, within, tally)
                within.seconds = self.processes.said_by_first(before + time.perf_counter() - started)
                training.within = within
                keep(training)
                kept = time.perf_counter()
        self.agree(training, within, tally)
        training.within = None
        loss, right, images = total(within.sums)
        return {
            "train/loss": loss / max(images, 1),
            "train/accuracy": right / max(images, 1),
            "images_per_second": len(order) / (before + time.perf_counter() - started),
            "lr": within.lr,
        }

    def agree(self, training: Training, within: Within, tally: Tally) -> None:
        """Makes the state of all processes the same before it is judged, kept or gone on from: statistics of
        batch normalisation are the first one's, the micro-batch is what fits all of them."""
        self.processes.like_first(training.buffers())
        training.micro_batch = min(self.processes.gathered(training.micro_batch))
        within.sums = self.processes.gathered(tally.sums())

    def order(self, epoch: int, random: np.random.Generator) -> np.ndarray:
        """Training rows as an epoch sees them."""
        train, start = self.split.train, self.settings.positive_share
        if start is None:
            return random.permutation(train)
        positive = self.batches.labels(train).numpy() == 1
        share = falling(start, positive.mean(), epoch, self.settings.epochs)
        return with_share(train, positive, share, random)

    def gradients(
        self, training: Training, batches: list[tuple[Batch, Tensor]], in_window: int, tally: Tally
    ) -> int:
        """Those of these batches' share in the mean loss of a window of so many images; returns how many
        images have a label. What does not fit the memory is done again in halves."""
        while True:
            try:
                seen = self._gradients(training, batches, in_window)
                break
            except (RuntimeError, MemoryError) as error:
                self._too_large(training.micro_batch, error)
            training.optimizer.zero_grad(set_to_none=True)
            training.micro_batch = -(-training.micro_batch // 2)
            self.machine.forget()
        if not seen:
            training.optimizer.zero_grad(set_to_none=True)  # those of the window before
        for rows, loss, right, n_decided in seen:
            tally.add(rows, loss, right, n_decided)
        return sum(n_decided for *_, n_decided in seen)

    def _gradients(
        self, training: Training, batches: list[tuple[Batch, Tensor]], in_window: int
    ) -> list[tuple[np.ndarray, Tensor, Tensor, int]]:
        """Of every piece that has a label: its rows, mean loss, right answers and number of labels. A piece
        is a micro-batch, or the whole batch where the loss depends on which images share it."""
        seen: list[tuple[np.ndarray, Tensor, Tensor, int]] = []
        for batch, draws in batches:
            size = training.micro_batch if self.loss.is_mean_over_images else len(draws)
            for start in range(0, len(draws), size):
                at = slice(start, start + size)
                piece = batch.part(at)
                logits, labels, loss, where = self._losses(training, piece, draws[at].to(self.machine.device))
                if not len(labels):
                    continue
                if not seen:
                    training.optimizer.zero_grad(set_to_none=True)
                total = loss + self.settings.mask_weight * where
                share = training.scaler.scale(total * (len(labels) / in_window))
                share.backward()  # type: ignore[no-untyped-call]
                answers = self.loss.probability(logits.detach()) >= 0.5
                seen.append((piece.rows, loss.detach(), (answers == (labels > 0.5)).sum(), len(labels)))
        return seen

    def _losses(
        self, training: Training, piece: Batch, draws: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        """Logits, labels, their loss, and that of where a mask head sees lesions."""
        inputs, labels, decided = self.inputs(piece, draws)
        if not len(labels):
            return labels, labels, labels, 0.0
        if training.model.mask_head is None:
            (logits,) = self._answers(training, inputs)
            return logits, labels, self.loss(logits, labels), 0.0
        logits, drawn = self._answers(training, inputs, drawing=True)
        masks, known = self.lesions(piece, draws)
        return logits, labels, self.loss(logits, labels), mask_loss(drawn, masks[decided], known[decided])

    def _answers(self, training: Training, inputs: Tensor, **options: bool) -> tuple[Tensor, ...]:
        """What the model gives for these images. Where they are more than a micro-batch, they pass piece by
        piece, and again when gradients are taken, so that the memory holds one piece (Chen et al. 2016,
        "Training deep nets with sublinear memory cost")."""
        if len(inputs) <= training.micro_batch:
            with self.machine.precision():
                return _tuple(training.model(inputs, **options))
        answers = []
        for piece in torch.split(inputs, training.micro_batch):
            forward = partial(training.model, **options)
            with self.machine.precision():
                answers.append(_tuple(checkpoint(forward, piece, use_reentrant=False)))
        return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))

    def _too_large(self, images: int, error: Exception) -> None:
        """Raises the error again if it is of another kind, or cannot be mended by fewer images at once."""
        if not is_out_of_memory(error):
            raise error
        if images == 1:
            raise TooLittleMemoryError(
                f"Out of memory with a single image on {self.machine.device}: a smaller model, "
                "data.image_side_px or augment.crop is needed, or a larger device"
            ) from error

    def inputs(self, batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor, Tensor | slice]:
        """What the model learns from, (B', 1, h, w) float, and labels (B',): without those that relabelling
        leaves undecided; and which of the batch these are."""
        images, labels = self.view(batch, draws)
        decided: Tensor | slice = slice(None)
        if self.augment.relabel:
            decided = ~labels.isnan()
            images, labels = images[decided], labels[decided]
        return self.normalise(images).contiguous(memory_format=self.memory_format), labels, decided

    def lesions(self, batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Masks as augmented, (B, 1, h, w) in [0, 1], and of which images (B,) it is known where they have a
        lesion, if any."""
        masks = self.augment.masks(self.batches.masks(batch.rows), draws)
        has_mask = torch.from_numpy(self.batches.store.has_mask[batch.rows]).to(masks.device)
        return masks, has_mask | (batch.labels == 0)

    def view(self, batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented images (B, 1, h, w) float in [0, 1] and labels (B,), NaN where undecided."""
        images, labels = self.augment(batch.images, draws), batch.labels
        masked = np.flatnonzero(self.batches.store.has_mask[batch.rows])
        if self.augment.relabel and len(masked):
            survival = self.augment.surviving(self.batches.masks(batch.rows[masked]), draws[masked])
            labels = labels.clone()
            labels[masked] = self.augment.relabelled(labels[masked], survival)
        return images, labels

    def step(self, training: Training, correction: float) -> None:
        """One optimizer step; `correction` makes a mean over the images that have a label."""
        self.processes.sum(_gradients_of(training) if self.processes.count > 1 else [])
        training.scaler.unscale_(training.optimizer)
        if correction != 1:
            gradients = [p.grad for p in training.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, correction)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(training.model.parameters(), self.settings.clip_norm)
        training.scaler.step(training.optimizer)
        training.scaler.update()
        if training.average:
            training.average.update(training.model)


def _gradients_of(training: Training) -> list[Tensor]:
    """One for each parameter that is trained; zeros where this process had nothing in the window."""
    trained = [p for p in training.model.parameters() if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in trained if p.grad is not None]


def _tuple(answer: Any) -> tuple[Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
