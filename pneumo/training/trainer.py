"""The training loop: a generator of one report an epoch. It knows nothing of where reports go.

Read `Trainer.epochs` first, then down. B images of a batch, B' of them that have a label after augmentation.
A window is `accumulation_steps` batches of every process: one optimizer step. A batch that does not fit the
memory passes in micro-batches, which the trainer makes smaller until they fit."""

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
from pneumo.data.batches import Batch, Batches, in_batches, to_device
from pneumo.data.normalise import Normalise
from pneumo.data.sampling import falling, with_share
from pneumo.data.split import Split
from pneumo.errors import InputError, NonFiniteLossError
from pneumo.training.device import Accelerator
from pneumo.training.distributed import SINGLE_PROCESS, ProcessGroup
from pneumo.training.epoch_metrics import LossMeter, epoch_metrics, train_metrics
from pneumo.training.examples import CachedFeatures, Examples, FeatureBatch
from pneumo.training.predict import (
    EvalTransform,
    Predictions,
    TtaTransform,
    predict,
    scores_of,
    tta_transforms,
)
from pneumo.training.settings import TrainerSettings
from pneumo.training.state import EpochProgress, EpochReport, TrainState

ONE_VALUE = "more than 1 value per channel"  # of what torch says of a batch of one image of one pixel


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What stays the same from epoch to epoch."""

    settings: TrainerSettings
    accelerator: Accelerator
    loss: Loss
    augment: Augment
    normalise: Normalise
    batches: Batches
    split: Split
    image_ids: np.ndarray  # (N,) names of the cohort's rows, for errors
    seed: int
    processes: ProcessGroup = SINGLE_PROCESS
    features: CachedFeatures | None = None  # learned from instead of images, where the backbone is frozen

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.settings.channels_last else torch.contiguous_format

    @property
    def eval_transform(self) -> EvalTransform:
        return EvalTransform(
            self.augment.evaluation, self.normalise, self.accelerator.precision, self.memory_format
        )

    @property
    def effective_batch(self) -> int:
        return self.settings.effective_batch * self.processes.count

    @property
    def has_masks(self) -> bool:
        """Whether any training image has a lesion mask."""
        return bool(self.batches.store.has_mask[self.split.train].any())

    def steps_per_epoch(self) -> int:
        return -(-len(self.split.train) // self.effective_batch)

    def epochs(
        self,
        train_state: TrainState,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[TrainState], None] = lambda train_state: None,
    ) -> Iterator[EpochReport]:
        """Trains from where `train_state` stands to the last epoch, or until its schedule stops it.
        `on_batch(done, total)` is called after every window, counted over all epochs; `keep` within an epoch
        every `checkpoint_minutes`. NonFiniteLossError: the loss was NaN or infinite. TooLittleMemoryError:
        not even one image fits."""
        while len(train_state.history) < self.settings.epochs and not train_state.stopped:
            epoch = len(train_state.history) + 1
            before = train_state.progress.seconds if train_state.progress else 0.0
            started = time.perf_counter()
            trained = self.train_epoch(train_state, epoch, on_batch, keep)
            predictions = self.predict(train_state.evaluated, self.split.val, tta_transforms("none"))
            if not np.isfinite(predictions.loss):
                raise NonFiniteLossError(f"The validation loss is {predictions.loss} after epoch {epoch}")
            seconds = before + time.perf_counter() - started
            metrics = self.processes.broadcast_object(epoch_metrics(trained, predictions, seconds))
            yield EpochReport(epoch, metrics, predictions, train_state.finish_epoch(metrics))

    def train_epoch(
        self,
        train_state: TrainState,
        epoch: int,
        on_batch: Callable[[int, int], None],
        keep: Callable[[TrainState], None],
    ) -> dict[str, float]:
        """Trains one epoch, or the rest of one, and returns its metrics by their MLflow names. The order and
        the augmentation depend on seed and epoch alone; dropout also on window and process."""
        order_seed, draws_seed = np.random.SeedSequence([self.seed, epoch]).generate_state(2)
        order = self.order(epoch, np.random.default_rng(order_seed))
        draws = self.augment.draw(len(order), torch.Generator().manual_seed(int(draws_seed)))
        windows = in_batches(np.arange(len(order)), self.effective_batch)
        mine = [self.processes.shard(in_batches(window, self.settings.batch_size)) for window in windows]

        started = time.perf_counter()
        train_state.model.train()
        progress = train_state.progress or EpochProgress(lr=train_state.optimizer.param_groups[0]["lr"])
        before, kept = progress.seconds, started
        meter = LossMeter(self.image_ids, epoch, self.processes.shard(progress.sums))
        remaining = [order[at] for window in mine[progress.windows :] for at in window]
        coming: Iterator[Batch | FeatureBatch] = (self.features or self.batches).each(remaining)
        for number in range(progress.windows, len(windows)):
            torch.manual_seed(_seed(self.seed, epoch, number, self.processes.rank))
            batches = [(next(coming), draws[at]) for at in mine[number]]
            n_labelled = self.gradients(train_state, batches, len(windows[number]), meter)
            minutes = (time.perf_counter() - kept) / 60
            due = self.settings.checkpoint_minutes is not None and minutes >= self.settings.checkpoint_minutes
            if self.processes.count > 1:
                totals = torch.tensor(
                    [n_labelled, due and self.processes.is_first], device=self.accelerator.device
                )
                self.processes.all_reduce([totals])
                n_labelled, due = totals.tolist()
            if n_labelled:
                self.step(train_state, len(windows[number]) / n_labelled)
            train_state.lr_controller.after_step()
            progress.windows = number + 1
            on_batch((epoch - 1) * len(windows) + number + 1, self.settings.epochs * len(windows))
            if due and progress.windows < len(windows):
                self.synchronize(train_state, progress, meter)
                progress.seconds = self.processes.broadcast_object(before + time.perf_counter() - started)
                train_state.progress = progress
                keep(train_state)
                kept = time.perf_counter()
        self.synchronize(train_state, progress, meter)
        train_state.progress = None
        seconds = before + time.perf_counter() - started
        return train_metrics(progress.sums, progress.lr, len(order), seconds)

    def order(self, epoch: int, random: np.random.Generator) -> np.ndarray:
        """Training rows in the order in which an epoch sees them."""
        train = self.split.train
        if self.settings.positive_share is None:
            return random.permutation(train)
        positive = self.batches.labels(train).numpy() == 1
        return with_share(train, positive, self.positive_share(epoch), random)

    def positive_share(self, epoch: int) -> float:
        """The share of positives among the images of an epoch."""
        natural = float((self.batches.labels(self.split.train).numpy() == 1).mean())
        start = self.settings.positive_share
        return natural if start is None else falling(start, natural, epoch, self.settings.epochs)

    def gradients(
        self,
        train_state: TrainState,
        batches: list[tuple[Batch | FeatureBatch, Tensor]],
        in_window: int,
        meter: LossMeter,
    ) -> int:
        """Leaves in the model the gradients of these batches' share in the mean loss of a window of
        `in_window` images, and returns how many of their images have a label. What does not fit the memory
        is done again in halves. InputError: a single image of one pixel cannot be normalised."""
        while True:
            try:
                pieces = self._backward(train_state, batches, in_window)
                break
            except (RuntimeError, MemoryError) as error:
                self.accelerator.refuse_other_errors(train_state.micro_batch, error)
            except ValueError as error:
                if ONE_VALUE not in str(error):
                    raise
                raise InputError(
                    "A batch of one image cannot be normalised, since the network's last map is one pixel: a "
                    "larger data.image_side_px or augment.crop is needed, or another fit.batch_size"
                ) from error
            train_state.optimizer.zero_grad(set_to_none=True)
            train_state.micro_batch = -(-train_state.micro_batch // 2)
            self.accelerator.forget()
        if not pieces:
            train_state.optimizer.zero_grad(set_to_none=True)  # those of the window before
        for rows, loss, correct, n_labelled in pieces:
            meter.add(rows, loss, correct, n_labelled)
        return sum(n_labelled for *_, n_labelled in pieces)

    def _backward(
        self, train_state: TrainState, batches: list[tuple[Batch | FeatureBatch, Tensor]], in_window: int
    ) -> list[tuple[np.ndarray, Tensor, Tensor, int]]:
        """Rows, mean loss, correct predictions and number of labels of every piece that has a label. A piece
        is a micro-batch, or the whole batch where the loss depends on which images share it."""
        pieces: list[tuple[np.ndarray, Tensor, Tensor, int]] = []
        for batch, draws in batches:
            size = train_state.micro_batch if self.loss.is_mean_over_images else len(draws)
            for start in range(0, len(draws), size):
                at = slice(start, start + size)
                rows, piece_draws = batch.rows[at], to_device(draws[at], self.accelerator.device)
                examples = self.examples(
                    batch.part(at), piece_draws, with_masks=train_state.model.mask_head is not None
                )
                if not len(examples.labels):
                    continue
                logits, loss, total_loss = self._losses(train_state, examples)
                if not pieces:
                    train_state.optimizer.zero_grad(set_to_none=True)
                n_labelled = len(examples.labels)
                share = train_state.scaler.scale(total_loss * (n_labelled / in_window))
                share.backward()  # type: ignore[no-untyped-call]
                called_positive = self.loss.probability(logits.detach()) >= 0.5
                correct = (called_positive == (examples.labels > 0.5)).sum()
                pieces.append((rows, loss.detach(), correct, n_labelled))
        return pieces

    def _losses(self, train_state: TrainState, examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, the loss of the labels, and that with the mask head's loss added."""
        if examples.masks is None or examples.mask_known is None:
            (logits,) = self._forward(train_state, examples.inputs)
            loss = self.loss(logits, examples.labels)
            return logits, loss, loss
        logits, mask_logits = self._forward(train_state, examples.inputs, drawing=True)
        loss = self.loss(logits, examples.labels)
        where = mask_loss(mask_logits, examples.masks, examples.mask_known)
        return logits, loss, loss + self.settings.mask_weight * where

    def _forward(self, train_state: TrainState, inputs: Tensor, **options: bool) -> tuple[Tensor, ...]:
        """The model's outputs. Inputs that are more than a micro-batch pass piece by piece, and again when
        gradients are taken, so that the memory holds one piece (Chen et al. 2016, "Training deep nets with
        sublinear memory cost")."""
        if len(inputs) <= train_state.micro_batch:
            with self.accelerator.precision():
                return _tuple(train_state.model(inputs, **options))
        outputs = []
        for piece in torch.split(inputs, train_state.micro_batch):
            forward = partial(train_state.model, **options)
            with self.accelerator.precision():
                outputs.append(_tuple(checkpoint(forward, piece, use_reentrant=False)))
        return tuple(torch.cat(pieces) for pieces in zip(*outputs, strict=True))

    def examples(self, batch: Batch | FeatureBatch, draws: Tensor, with_masks: bool = False) -> Examples:
        """What the model learns from this batch, augmented by draws (B, n): without the images that
        relabelling leaves without a label. `with_masks`: also their lesion masks."""
        if isinstance(batch, FeatureBatch):
            return batch.examples(draws)
        images, labels, masks = self.augmented(batch, draws, with_masks)
        labelled = ~labels.isnan() if self.augment.relabel else slice(None)
        inputs = self.normalise(images[labelled]).contiguous(memory_format=self.memory_format)
        if masks is None:
            return Examples(inputs, labels[labelled])
        has_mask = to_device(self.batches.store.has_mask[batch.rows], masks.device)
        mask_known = has_mask | (batch.labels == 0)
        return Examples(inputs, labels[labelled], masks[labelled], mask_known[labelled])

    def augmented(
        self, batch: Batch, draws: Tensor, with_masks: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Augmented images (B, 1, h, w) float in [0, 1], labels (B,), NaN where relabelling leaves it open,
        and where asked for the lesion masks (B, 1, h, w) in [0, 1], zeros where none is annotated."""
        images, labels = self.augment(batch.images, draws), batch.labels
        masks = torch.zeros_like(images) if with_masks else None
        rows_annotated = np.flatnonzero(self.batches.store.has_mask[batch.rows])
        if len(rows_annotated) and (with_masks or self.augment.relabel):
            annotated = to_device(rows_annotated, images.device)
            stored = self.batches.masks(batch.rows[rows_annotated])
            seen = self.augment.masks(stored, draws[annotated])
            if masks is not None:
                masks[annotated] = seen
            if self.augment.relabel:
                share = self.augment.share_seen(stored, seen, draws[annotated])
                labels = labels.clone()
                labels[annotated] = self.augment.relabelled(labels[annotated], share)
        return images, labels, masks

    def step(self, train_state: TrainState, correction: float) -> None:
        """Makes one optimizer step; `correction` makes of the gradients those of a mean over the images that
        have a label."""
        self.processes.all_reduce(_gradients_of(train_state) if self.processes.count > 1 else [])
        train_state.scaler.unscale_(train_state.optimizer)
        if correction != 1:
            gradients = [p.grad for p in train_state.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, correction)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(train_state.model.parameters(), self.settings.clip_norm)
        train_state.scaler.step(train_state.optimizer)
        train_state.scaler.update()
        if train_state.ema:
            train_state.ema.update(train_state.model)

    def synchronize(self, train_state: TrainState, progress: EpochProgress, meter: LossMeter) -> None:
        """Makes the state of all processes the same before it is evaluated, kept or continued: statistics of
        batch normalisation are the first one's, the micro-batch is what fits all of them."""
        self.processes.broadcast(train_state.buffers())
        train_state.micro_batch = min(self.processes.all_gather(train_state.micro_batch))
        progress.sums = self.processes.all_gather(meter.sums())

    def predict(self, model: nn.Module, rows: np.ndarray, transforms: list[TtaTransform]) -> Predictions:
        """Predictions of these rows, averaged over the transforms. Each process predicts its share of the
        rows; all get the whole."""
        size = 2 * self.settings.batch_size  # no gradients: twice as many fit
        mine = self.processes.shard(rows)

        def logits_of_mine(size: int) -> Tensor:
            if not len(mine):
                return torch.empty(0, self.loss.n_outputs)
            if self.features and transforms == tta_transforms("none"):
                return self.features.predict(model, mine, size)
            return predict(model, self.batches, mine, self.eval_transform, size, transforms)

        logits = self.accelerator.with_size_that_fits(logits_of_mine, size)
        whole = torch.empty(len(rows), self.loss.n_outputs)
        for rank, share in enumerate(self.processes.all_gather(logits)):
            whole[rank :: self.processes.count] = share
        labels = self.batches.labels(rows)
        return Predictions(
            rows=rows,
            labels=labels.numpy().astype(int),
            logits=whole.numpy(),
            scores=scores_of(self.loss, whole),
            loss=float(self.loss.of_many(whole, labels, self.settings.batch_size)),
        )


def _gradients_of(train_state: TrainState) -> list[Tensor]:
    """The gradient of each parameter that is trained; zeros where this process had nothing in the window."""
    trained = [p for p in train_state.model.parameters() if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in trained if p.grad is not None]


def _tuple(output: Any) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
