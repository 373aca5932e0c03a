"""From a score to what is said of an image: numpy alone, so that a served model needs no more."""

from dataclasses import dataclass

import numpy as np

NEAREST = 5e-7  # a score to 0 or 1, where log odds are taken: half of the last digit that a run keeps


@dataclass(frozen=True)
class Decision:
    """What the validation split chose, frozen: `threshold` of the scores, `temperature` of the log odds."""

    threshold: float
    temperature: float

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(N,) scores -> (N,) calibrated P(pneumothorax)."""
        return np.asarray(1 / (1 + np.exp(-log_odds(scores) / self.temperature)))

    def of(self, scores: np.ndarray) -> np.ndarray:
        """(N,) scores -> (N,) positive, where a score is at the threshold or above, or negative."""
        return np.where(scores >= self.threshold, "positive", "negative")


def log_odds(scores: np.ndarray) -> np.ndarray:
    """(N,) of scores, which may be 0 or 1 in the digits that were kept."""
    kept = np.clip(scores.astype(np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(np.log(kept / (1 - kept)))
