"""Scores that say how often they are right, by one number fitted on the validation split."""

import numpy as np
from scipy.optimize import minimize_scalar

LOWEST, HIGHEST = np.log(0.05), np.log(20.0)  # of a temperature's logarithm


def temperature(log_odds: np.ndarray, labels: np.ndarray) -> float:
    """(N,) log odds and (N,) labels of 0 or 1 -> the T, 1/20 to 20, that minimises the mean negative
    log likelihood of sigmoid(log_odds / T) (Guo et al. 2017, "On calibration of modern neural
    networks")."""
    signed = np.where(labels > 0.5, log_odds, -log_odds)

    def nll(log_t: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_t)).mean())

    return float(np.exp(minimize_scalar(nll, bounds=(LOWEST, HIGHEST), method="bounded").x))
