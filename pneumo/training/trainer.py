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
from pneumo.evaluation.metrics import compute_metrics
from pneumo.training.device import Accelerator, is_out_of_memory
from pneumo.training.distributed import SINGLE_PROCESS, ProcessGroup
from pneumo.training.meter import LossMeter, total
from pneumo.training.predict import EvalTransform, Predictions, TtaTransform, predict, tta_transforms
from pneumo.training.settings import TrainerSettings
from pneumo.training.state import EpochProgress, EpochReport, TrainState


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

    def steps_per_epoch(self) -> int:
        return -(-len(self.split.train) // self.effective_batch)

    def predict(self, model: nn.Module, rows: np.ndarray, transforms: list[TtaTransform]) -> Predictions:
        """Each process sees its share of the rows; all get the whole."""
        size = 2 * self.settings.batch_size  # no gradients: twice as many fit
        mine = self.processes.shard(rows)
        logits = torch.empty(0, self.loss.n_outputs)
        while len(mine):
            try:
                logits = predict(model, self.batches, mine, self.eval_transform, size, transforms)
                break
            except (RuntimeError, MemoryError) as error:
                self._too_large(size, error)
            size = -(-size // 2)
            self.accelerator.forget()
        whole = torch.empty(len(rows), self.loss.n_outputs)
        for rank, part in enumerate(self.processes.all_gather(logits)):
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
        train_state: TrainState,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[TrainState], None] = lambda train_state: None,
    ) -> Iterator[EpochReport]:
        """From where `training` stands to the last epoch, or until its schedule stops it.
        `on_batch(done, total)` is called as batches of all epochs finish, `keep` within an epoch every
        `checkpoint_minutes`. NonFiniteLossError: the loss was NaN or infinite. TooLittleMemoryError: not
        even one image fits."""
        while len(train_state.history) < self.settings.epochs and not train_state.stopped:
            epoch = len(train_state.history) + 1
            before = train_state.progress.seconds if train_state.progress else 0.0
            started = time.perf_counter()
            train_figures = self.train_epoch(train_state, epoch, on_batch, keep)
            predictions = self.predict(train_state.evaluated, self.split.val, tta_transforms("none"))
            if not np.isfinite(predictions.loss):
                raise NonFiniteLossError(f"The validation loss is {predictions.loss} after epoch {epoch}")
            val = {
                "loss": predictions.loss,
                **compute_metrics(predictions.labels, predictions.scores),
            }
            metrics = self.processes.broadcast_object(
                {
                    **train_figures,
                    **{f"val/{name}": value for name, value in val.items()},
                    "micro_batch": train_state.micro_batch,
                    "epoch_seconds": before + time.perf_counter() - started,
                }
            )
            yield EpochReport(epoch, metrics, predictions, train_state.finish_epoch(metrics))

    def train_epoch(
        self,
        train_state: TrainState,
        epoch: int,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[TrainState], None] = lambda train_state: None,
    ) -> dict[str, float]:
        """The order and the augmentation depend on seed and epoch alone; dropout also on window and
        process."""
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
        coming = self.batches.each([order[at] for window in mine[progress.windows :] for at in window])
        for number in range(progress.windows, len(windows)):
            torch.manual_seed(_seed(self.seed, epoch, number, self.processes.rank))
            batches = [(next(coming), draws[at]) for at in mine[number]]
            decided = self.gradients(train_state, batches, len(windows[number]), meter)
            minutes = (time.perf_counter() - kept) / 60
            due = self.settings.checkpoint_minutes is not None and minutes >= self.settings.checkpoint_minutes
            together = torch.tensor(
                [decided, due and self.processes.is_first], device=self.accelerator.device
            )
            self.processes.all_reduce([together])
            decided, due = together.tolist() if self.processes.count > 1 else (decided, due)
            if decided:
                self.step(train_state, len(windows[number]) / decided)
            train_state.lr_controller.after_step()
            progress.windows = number + 1
            on_batch((epoch - 1) * len(windows) + number + 1, self.settings.epochs * len(windows))
            if due and progress.windows < len(windows):
                self.agree(train_state, progress, meter)
                progress.seconds = self.processes.broadcast_object(before + time.perf_counter() - started)
                train_state.progress = progress
                keep(train_state)
                kept = time.perf_counter()
        self.agree(train_state, progress, meter)
        train_state.progress = None
        loss, right, images = total(progress.sums)
        return {
            "train/loss": loss / max(images, 1),
            "train/accuracy": right / max(images, 1),
            "images_per_second": len(order) / (before + time.perf_counter() - started),
            "lr": progress.lr,
        }

    def agree(self, train_state: TrainState, progress: EpochProgress, meter: LossMeter) -> None:
        """Makes the state of all processes the same before it is judged, kept or gone on from: statistics of
        batch normalisation are the first one's, the micro-batch is what fits all of them."""
        self.processes.broadcast(train_state.buffers())
        train_state.micro_batch = min(self.processes.all_gather(train_state.micro_batch))
        progress.sums = self.processes.all_gather(meter.sums())

    def order(self, epoch: int, random: np.random.Generator) -> np.ndarray:
        """Training rows as an epoch sees them."""
        train, start = self.split.train, self.settings.positive_share
        if start is None:
            return random.permutation(train)
        positive = self.batches.labels(train).numpy() == 1
        share = falling(start, positive.mean(), epoch, self.settings.epochs)
        return with_share(train, positive, share, random)

    def gradients(
        self, train_state: TrainState, batches: list[tuple[Batch, Tensor]], in_window: int, meter: LossMeter
    ) -> int:
        """Those of these batches' share in the mean loss of a window of so many images; returns how many
        images have a label. What does not fit the memory is done again in halves."""
        while True:
            try:
                seen = self._gradients(train_state, batches, in_window)
                break
            except (RuntimeError, MemoryError) as error:
                self._too_large(train_state.micro_batch, error)
            train_state.optimizer.zero_grad(set_to_none=True)
            train_state.micro_batch = -(-train_state.micro_batch // 2)
            self.accelerator.forget()
        if not seen:
            train_state.optimizer.zero_grad(set_to_none=True)  # those of the window before
        for rows, loss, right, n_decided in seen:
            meter.add(rows, loss, right, n_decided)
        return sum(n_decided for *_, n_decided in seen)

    def _gradients(
        self, train_state: TrainState, batches: list[tuple[Batch, Tensor]], in_window: int
    ) -> list[tuple[np.ndarray, Tensor, Tensor, int]]:
        """Of every piece that has a label: its rows, mean loss, right answers and number of labels. A piece
        is a micro-batch, or the whole batch where the loss depends on which images share it."""
        seen: list[tuple[np.ndarray, Tensor, Tensor, int]] = []
        for batch, draws in batches:
            size = train_state.micro_batch if self.loss.is_mean_over_images else len(draws)
            for start in range(0, len(draws), size):
                at = slice(start, start + size)
                piece = batch.part(at)
                logits, labels, loss, where = self._losses(
                    train_state, piece, draws[at].to(self.accelerator.device)
                )
                if not len(labels):
                    continue
                if not seen:
                    train_state.optimizer.zero_grad(set_to_none=True)
                total = loss + self.settings.mask_weight * where
                share = train_state.scaler.scale(total * (len(labels) / in_window))
                share.backward()  # type: ignore[no-untyped-call]
                answers = self.loss.probability(logits.detach()) >= 0.5
                seen.append((piece.rows, loss.detach(), (answers == (labels > 0.5)).sum(), len(labels)))
        return seen

    def _losses(
        self, train_state: TrainState, piece: Batch, draws: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        """Logits, labels, their loss, and that of where a mask head sees lesions."""
        inputs, labels, decided = self.inputs(piece, draws)
        if not len(labels):
            return labels, labels, labels, 0.0
        if train_state.model.mask_head is None:
            (logits,) = self._answers(train_state, inputs)
            return logits, labels, self.loss(logits, labels), 0.0
        logits, drawn = self._answers(train_state, inputs, drawing=True)
        masks, known = self.lesions(piece, draws)
        return logits, labels, self.loss(logits, labels), mask_loss(drawn, masks[decided], known[decided])

    def _answers(self, train_state: TrainState, inputs: Tensor, **options: bool) -> tuple[Tensor, ...]:
        """What the model gives for these images. Where they are more than a micro-batch, they pass piece by
        piece, and again when gradients are taken, so that the memory holds one piece (Chen et al. 2016,
        "Training deep nets with sublinear memory cost")."""
        if len(inputs) <= train_state.micro_batch:
            with self.accelerator.precision():
                return _tuple(train_state.model(inputs, **options))
        answers = []
        for piece in torch.split(inputs, train_state.micro_batch):
            forward = partial(train_state.model, **options)
            with self.accelerator.precision():
                answers.append(_tuple(checkpoint(forward, piece, use_reentrant=False)))
        return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))

    def _too_large(self, images: int, error: Exception) -> None:
        """Raises the error again if it is of another kind, or cannot be mended by fewer images at once."""
        if not is_out_of_memory(error):
            raise error
        if images == 1:
            raise TooLittleMemoryError(
                f"Out of memory with a single image on {self.accelerator.device}: a smaller model, "
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

    def step(self, train_state: TrainState, correction: float) -> None:
        """One optimizer step; `correction` makes a mean over the images that have a label."""
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


def _gradients_of(train_state: TrainState) -> list[Tensor]:
    """One for each parameter that is trained; zeros where this process had nothing in the window."""
    trained = [p for p in train_state.model.parameters() if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in trained if p.grad is not None]


def _tuple(answer: Any) -> tuple[Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
