"""From a score to a probability and a call. It needs numpy alone, as a served model does."""

from dataclasses import dataclass

import numpy as np

from pneumo.evaluation.metrics import log_odds
from pneumo.evaluation.platt import PlattScaling

MARGIN = 5e-7  # of a score to 0 and 1, where log odds are taken: half of the last digit that a run keeps


@dataclass(frozen=True)
class Decision:
    """What was chosen on the validation split: `threshold` of the scores, `scaling` of the log odds."""

    threshold: float
    scaling: PlattScaling

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(N,) scores -> (N,) P(pneumothorax) after Platt scaling."""
        return self.scaling.probabilities(log_odds(scores, MARGIN))

    def of(self, scores: np.ndarray) -> np.ndarray:
        """(N,) scores -> (N,) "positive", where a score is at or above the threshold, or "negative"."""
        return np.where(scores >= self.threshold, "positive", "negative")
