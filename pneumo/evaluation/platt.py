"""Platt scaling, which sets right how certain a model is. It needs numpy alone, as a served model does."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlattScaling:
    """P(pneumothorax) = sigmoid(slope * log odds + intercept), as `calibration.platt_scaling` fits it."""

    slope: float = 1.0
    intercept: float = 0.0

    def __str__(self) -> str:
        return f"sigmoid({self.slope:.3g} log odds {'-+'[self.intercept >= 0]} {abs(self.intercept):.3g})"

    def log_odds(self, log_odds: np.ndarray) -> np.ndarray:
        """(N,) scaled."""
        return self.slope * log_odds + self.intercept

    def probabilities(self, log_odds: np.ndarray) -> np.ndarray:
        """(N,) P."""
        return np.asarray(np.exp(-np.logaddexp(0, -self.log_odds(log_odds))))


UNSCALED = PlattScaling()
