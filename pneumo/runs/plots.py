"""The plots that a run logs to MLflow: sample images, learning curves, and results on one split."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from pneumo.data.dataset import Dataset
from pneumo.evaluation import pictures, plots
from pneumo.runs.results import SplitResult
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

SHOWN, VARIANTS, IN_BATCH = 4, 5, 16  # images, variants of each, and images in the plot of a batch
COUNT = 6  # plots of a run


def of_run(
    trainer: Trainer, train_state: TrainState, dataset: Dataset, results: Mapping[str, SplitResult]
) -> Iterator[tuple[str, Figure]]:
    """COUNT plots, each after its path among the run's artifacts; of the results, the last are shown."""
    split, one = list(results.items())[-1]
    labels, scores = one.predictions.labels, one.predictions.scores
    yield "pictures/1-augmented.png", augmented(trainer, dataset)
    yield "pictures/2-batch.png", batch(trainer, dataset)
    yield "pictures/3-curves.png", plots.curves(train_state.history, train_state.best_epoch)
    yield f"pictures/{split}-roc-pr.png", plots.ranking(labels, scores, one.threshold, split)
    yield f"pictures/{split}-confusion.png", plots.confusion(labels, scores, one.threshold, split)
    yield f"pictures/{split}-reliability.png", plots.reliability(labels, {split: scores}, split)


def augmented(trainer: Trainer, dataset: Dataset) -> Figure:
    """Up to SHOWN training images, positives first, with VARIANTS random augmentations of each."""
    rows = mixed(dataset, SHOWN)
    originals = torch.from_numpy(dataset.store.pixels[rows])[:, None]
    draws = trainer.augment.draw(len(rows) * VARIANTS, torch.Generator().manual_seed(trainer.seed))
    variants = trainer.augment(originals.repeat_interleave(VARIANTS, dim=0), draws)
    side = variants.shape[-1]
    return pictures.augmented(
        originals[:, 0].numpy(),
        variants.reshape(len(rows), VARIANTS, side, side).numpy(),
        dataset.labels[rows],
        captions(trainer, dataset, rows, draws),
    )


def captions(trainer: Trainer, dataset: Dataset, rows: np.ndarray, draws: torch.Tensor) -> list[list[str]]:
    """The share of its lesion that each variant still shows, as text; empty for images without a lesion."""
    texts = [[""] * VARIANTS for _ in rows]
    for index, row in enumerate(rows):
        if dataset.store.has_mask[row]:
            mask = torch.from_numpy(dataset.store.masks(rows[index : index + 1]))[:, None]
            image_draws = draws[index * VARIANTS : (index + 1) * VARIANTS]
            survival = trainer.augment.surviving(mask.expand(VARIANTS, -1, -1, -1), image_draws)
            texts[index] = [f"{float(share):.0%} of the lesion" for share in survival]
    return texts


def batch(trainer: Trainer, dataset: Dataset) -> Figure:
    """A batch of training images as evaluation transforms them, with their lesions outlined."""
    rows = mixed(dataset, IN_BATCH)
    pixels = torch.from_numpy(dataset.store.pixels[rows])[:, None]
    masks = torch.from_numpy(dataset.store.masks(rows))[:, None]
    return pictures.labelled(
        trainer.augment.evaluation(pixels)[:, 0].numpy(),
        (trainer.augment.evaluation(masks)[:, 0] * 255).numpy(),
        dataset.labels[rows],
        trainer.image_ids[rows],
    )


def mixed(dataset: Dataset, n_images: int) -> np.ndarray:
    """Rows of up to `n_images` training images, half of them positive, positives first."""
    train = dataset.split.train
    labels = dataset.labels[train]
    half = n_images // 2
    return np.concatenate([train[labels == 1][:half], train[labels == 0][: n_images - half]])
