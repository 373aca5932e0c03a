"""Sampling with a share of positives: in which order, and how often, an epoch sees the training images."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def with_share(
    rows: Rows, positive: npt.NDArray[np.bool_], share: float, random: np.random.Generator
) -> Rows:
    """As many rows again, of which `share` are positive: each class in random order, begun again where it
    runs out, then mixed. positive (N,): of each row."""
    n_positive = round(share * len(rows))
    counts = (rows[positive], n_positive), (rows[~positive], len(rows) - n_positive)
    sampled = [np.resize(random.permutation(of_class), n) for of_class, n in counts]
    return random.permutation(np.concatenate(sampled))


def falling(start: float, end: float, epoch: int, epochs: int) -> float:
    """From `start` in epoch 1 to `end` in the last, in equal steps; `end` where there is one epoch."""
    return start + (end - start) * (epoch - 1) / (epochs - 1) if epochs > 1 else end
