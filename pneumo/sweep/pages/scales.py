"""The scales of searched parameters: where a value lies between the ends of its distribution, and ticks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from pneumo.display.format import scientific
from pneumo.sweep.search_space import Value

Ticks = tuple[list[float], list[str]]


def varied_distributions(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The distributions of the parameters that have more than one value, in the order of their names."""
    distributions = {name: each for trial in trials for name, each in trial.distributions.items()}
    return {name: distributions[name] for name in sorted(distributions) if not distributions[name].single()}


def position(distribution: BaseDistribution, value: Value) -> float:
    """A value on a scale from 0 to 1 between the ends of its distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices).index(value) / (len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = np.array([distribution.low, distribution.high, value], float)
    low, high, here = np.log(ends) if distribution.log else ends
    return float((here - low) / (high - low))


def ticks(distribution: BaseDistribution) -> Ticks:
    """Positions from 0 to 1, as of `position`, and labels."""
    if isinstance(distribution, CategoricalDistribution):
        marks: list[Any] = list(distribution.choices)
        texts = [str(choice) for choice in distribution.choices]
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = distribution.low, distribution.high
        marks = decades(low, high) if distribution.log else [low, (low + high) / 2, high]
        texts = [scientific(mark) if distribution.log else f"{mark:g}" for mark in marks]
    return [position(distribution, mark) for mark in marks], texts


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from low to high, both above 0; the two ends where there are fewer than two."""
    powers = [float(f"1e{exponent}") for exponent in range(-12, 13)]
    within = [power for power in powers if low * 0.999 <= power <= high * 1.001]
    return within if len(within) > 1 else [low, high]
