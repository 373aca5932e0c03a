"""Which pictures a run keeps."""

from collections.abc import Iterator

import numpy as np
import torch
from matplotlib.figure import Figure

from pneumo.data.dataset import Material
from pneumo.evaluation import plots
from pneumo.runs.diagnosis import Scored
from pneumo.training.state import Training
from pneumo.training.trainer import Fit

SHOWN, VARIANTS, IN_BATCH = 4, 5, 16
COUNT = 6


def of_run(
    fit: Fit, training: Training, material: Material, scored: dict[str, Scored]
) -> Iterator[tuple[str, Figure]]:
    """COUNT pictures by their path in the run; the report's figures 1 to 5 are the first three."""
    part, one = list(scored.items())[-1]
    labels, scores = one.predictions.labels, one.predictions.scores
    yield "pictures/1-augmented.png", augmented(fit, material)
    yield "pictures/2-batch.png", batch(fit, material)
    yield "pictures/3-curves.png", plots.curves(training.history, training.best_epoch)
    yield f"pictures/{part}-roc-pr.png", plots.ranking(labels, scores, one.threshold, part)
    yield f"pictures/{part}-confusion.png", plots.confusion(labels, scores, one.threshold, part)
    yield f"pictures/{part}-reliability.png", plots.reliability(labels, {part: scores}, part)


def augmented(fit: Fit, material: Material) -> Figure:
    """Some training images, positives first, each drawn several times."""
    rows = mixed(material, SHOWN)
    originals = torch.from_numpy(material.store.pixels[rows])[:, None]
    draws = fit.augment.draw(SHOWN * VARIANTS, torch.Generator().manual_seed(fit.seed))
    variants = fit.augment(originals.repeat_interleave(VARIANTS, dim=0), draws)
    side = variants.shape[-1]
    return plots.augmented(
        originals[:, 0].numpy(),
        variants.reshape(SHOWN, VARIANTS, side, side).numpy(),
        material.labels[rows],
        captions(fit, material, rows, draws),
    )


def captions(fit: Fit, material: Material, rows: np.ndarray, draws: torch.Tensor) -> list[list[str]]:
    """How much of its lesion each variant still shows."""
    texts = [[""] * VARIANTS for _ in rows]
    for index, row in enumerate(rows):
        if material.store.has_mask[row]:
            mask = torch.from_numpy(material.store.masks(rows[index : index + 1]))[:, None]
            own = draws[index * VARIANTS : (index + 1) * VARIANTS]
            survival = fit.augment.surviving(mask.expand(VARIANTS, -1, -1, -1), own)
            texts[index] = [f"{float(share):.0%} of the lesion" for share in survival]
    return texts


def batch(fit: Fit, material: Material) -> Figure:
    """A batch as evaluation sees it, lesions outlined."""
    rows = mixed(material, IN_BATCH)
    pixels = torch.from_numpy(material.store.pixels[rows])[:, None]
    masks = torch.from_numpy(material.store.masks(rows))[:, None]
    return plots.labelled(
        fit.augment.evaluation(pixels)[:, 0].numpy(),
        (fit.augment.evaluation(masks)[:, 0] * 255).numpy(),
        material.labels[rows],
        fit.image_ids[rows],
    )


def mixed(material: Material, n_images: int) -> np.ndarray:
    """Training rows, half of them positive, positives first."""
    train = material.split.train
    labels = material.labels[train]
    half = n_images // 2
    return np.concatenate([train[labels == 1][:half], train[labels == 0][: n_images - half]])
