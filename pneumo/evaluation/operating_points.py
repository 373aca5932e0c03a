"""The thresholds that a person can choose on an evaluation's page, with the counts at each.

N images, K thresholds"""

import math
from dataclasses import dataclass

import numpy as np

from pneumo.display.format import decimal, probability
from pneumo.evaluation.metrics import Array, Confusion, Ranking

MOST = 400  # thresholds: finer steps are not seen on a curve
SMALL = 1e-4  # below it, a threshold is written as 3e-5
DIGITS, MOST_DIGITS = 3, 17  # of a threshold after the point: the fewest, and as many as a float has
PREVALENCES = np.geomspace(0.002, 0.6, 80)


@dataclass(frozen=True)
class OperatingPoints:
    """`tp` and `fp` (K,) are the positive and negative images whose P is at or above each of `thresholds`
    (K,), which rise; the first calls every image positive and the last none. `start` is the place of the
    model's own threshold, `shown` are the thresholds as text."""

    thresholds: list[float]
    shown: list[str]
    tp: list[int]
    fp: list[int]
    positives: int
    negatives: int
    start: int

    @classmethod
    def of(cls, labels: Array, p: Array, threshold: float, most: int = MOST) -> "OperatingPoints":
        """labels (N,) 0/1 of both classes and P(pneumothorax) (N,). The thresholds are decimals that lie
        between two neighbouring scores, evenly along the ROC curve, and the given one as it is."""
        ranking = Ranking.of(labels, p)
        tp, fp = (np.r_[0, counts[0]].astype(int) for counts in (ranking.tp, ranking.fp))
        along = tp / tp[-1] + fp / fp[-1]  # rises from 0 to 2 as more images are called positive
        called = int((ranking.thresholds >= threshold).sum())
        steps = np.searchsorted(along, np.linspace(0, 2, most - 1)).clip(max=len(tp) - 1)
        kept = range(len(tp)) if len(tp) <= most else np.unique([*steps, len(tp) - 1, called]).tolist()
        chosen = {called: (threshold, probability(threshold))}
        for number in kept:
            above = ranking.thresholds[number - 1] if number else 1.0
            below = ranking.thresholds[number] if number < len(ranking.thresholds) else 0.0
            if number != called and (between := decimal_between(below, above)) is not None:
                chosen[number] = between
        order = sorted(chosen, reverse=True)
        return cls(
            [chosen[number][0] for number in order],
            [chosen[number][1] for number in order],
            tp[order].tolist(),
            fp[order].tolist(),
            int(tp[-1]),
            int(fp[-1]),
            order.index(called),
        )

    @property
    def prevalence(self) -> float:
        """The share of positives in these images."""
        return self.positives / (self.positives + self.negatives)

    @property
    def prevalences(self) -> list[float]:
        """Those that can be chosen, rising, with that of these images among them."""
        own = self.prevalence
        low, high = min(PREVALENCES[0], own), max(PREVALENCES[-1], own)
        rounded = {float(f"{share:.2g}") for share in PREVALENCES}
        return sorted({share for share in rounded if low < share < high and share != own} | {low, own, high})

    @property
    def confusion(self) -> Confusion:
        """Counts (K,) at each threshold."""
        tp, fp = np.array(self.tp, float), np.array(self.fp, float)
        return Confusion(tp, fp, self.positives - tp, self.negatives - fp)

    def content(self) -> dict[str, object]:
        """What the script of the page reads."""
        shares = self.prevalences
        return {
            **vars(self),
            "prevalences": shares,
            "shown_prevalences": [f"{100 * share:.3g}%" for share in shares],
            "own_prevalence": shares.index(self.prevalence),
        }


def decimal_between(below: float, above: float) -> tuple[float, str] | None:
    """The shortest decimal above the one and at most the other, both from 0 to 1, as a number and as text
    (.721 or 3e-5); None if there is none, as between equal scores."""
    if above <= below:
        return None
    small = above < SMALL
    zeros = min(math.floor(-math.log10(above)), 290) if small else 0  # further down, floats end
    for digits in range(1 if small else DIGITS, MOST_DIGITS + 1):
        places = digits + zeros
        number = round(math.floor(above * 10**places) / 10**places, places)
        if below < number <= above:
            return number, repr(number).replace("e-0", "e-") if small else decimal(number, digits)
    return None
