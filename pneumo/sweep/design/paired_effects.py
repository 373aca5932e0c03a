"""Effects of a change over pairs of runs with the same seed: mean, interval, p value, and power."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

LEVEL, POWER = 0.95, 0.80
NO_EVIDENCE, UNKNOWN = "no evidence", "not known yet"


@dataclass(frozen=True)
class Effect:
    """The effect of a change, over pairs of runs that share everything else, including the seed."""

    mean: float
    low: float
    high: float
    smallest: float  # the true effect that 80% of such experiments would have detected
    p: float  # of Student's test for no effect: below .05 if the 95% interval excludes it
    n: int

    def verdict(self, none: float = 0.0, more: str = "helps", less: str = "hurts") -> str:
        """`more` or `less` where the interval excludes `none`."""
        if np.isnan(self.low):
            return UNKNOWN
        return more if self.low > none else less if self.high < none else NO_EVIDENCE


def paired(before: Sequence[float], after: Sequence[float]) -> Effect:
    """Mean difference with Student's interval over the pairs; an interval needs two of them."""
    differences = np.asarray(after, float) - np.asarray(before, float)
    n = len(differences)
    if n < 2:
        return Effect(float(differences.mean()) if n else np.nan, np.nan, np.nan, np.nan, np.nan, n)
    error = differences.std(ddof=1) / np.sqrt(n)
    half = student.ppf((1 + LEVEL) / 2, n - 1) * error
    smallest = half + student.ppf(POWER, n - 1) * error
    mean = float(differences.mean())
    p = 2 * student.sf(abs(mean) / error, n - 1) if error else float(mean == 0)
    return Effect(mean, float(mean - half), float(mean + half), float(smallest), float(p), n)


def ratio(before: Sequence[float], after: Sequence[float]) -> Effect:
    """The factor between the sides, as `paired` of logarithms; above 1: more."""
    logs = paired(np.log(before).tolist(), np.log(after).tolist())
    mean, low, high, smallest = np.exp([logs.mean, logs.low, logs.high, logs.smallest]).tolist()
    return Effect(mean, low, high, smallest, logs.p, logs.n)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for how many there are (Holm 1979): where those below .05 are called real, the chance
    of a single false one among all is at most 5%. NaN, which is not known, stays and does not count."""
    p = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p))
    rising = known[np.argsort(p[known], kind="stable")]
    adjusted = p.copy()
    stepped = np.maximum.accumulate(p[rising] * np.arange(len(rising), 0, -1))
    adjusted[rising] = np.minimum(stepped, 1)
    return list(map(float, adjusted))
