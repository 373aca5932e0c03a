"""How often an augmentation loses a lesion whose image keeps its positive label."""

import numpy as np
import torch

from pneumo.components.augment import Augment
from pneumo.data.split import Rows
from pneumo.data.store import Store

BATCH, SAMPLED = 64, 512  # at 512 px four draws of each take about ten seconds on one core
NOTHING_LEFT = 1e-3  # of the lesion's area: interpolation leaves a trace of a lesion just outside


def sampled_lesions(store: Store) -> Rows:
    """Rows of `store.lesions`, evenly spread and at most SAMPLED."""
    n_lesions = len(store.lesions)
    return np.linspace(0, n_lesions - 1, min(n_lesions, SAMPLED)).astype(int)


@torch.inference_mode()
def share_of_lesions_lost(
    augment: Augment, store: Store, lesions: Rows, below: float, n_draws: int = 1, seed: int = 0
) -> float:
    """The share of `n_draws` random augmentations of each of these rows of `store.lesions` after which less
    than `below` of the lesion's area is seen. With 0 draws: the share of them as evaluation sees them."""
    rows = np.tile(lesions, max(n_draws, 1))
    draws = augment.draw(len(rows), torch.Generator().manual_seed(seed))
    lost = 0
    for start in range(0, len(rows), BATCH):
        at = slice(start, start + BATCH)
        masks = torch.from_numpy(store.lesions[rows[at]])[:, None]
        if n_draws:
            seen = augment.surviving(masks, draws[at])
        else:
            seen = augment.evaluation(masks).sum(dim=(1, 2, 3)) / (masks.sum(dim=(1, 2, 3)) / 255)
        lost += int((seen < below).sum())
    return lost / len(rows)
