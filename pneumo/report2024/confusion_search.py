"""Finds the confusion matrices whose metrics are printed like a row of a table.

Accuracy, precision, recall, F1 and the AUROC of 0/1 predictions are fractions of whole numbers of images. The
search tries every confusion matrix of every split size in whole numbers, so it adds no rounding errors."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
MIN_DIGITS = 4  # 1.0 and 0.0 are printed without their trailing zeros
PRINTINGS = ("cut off", "rounded")


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix whose metrics are printed like the row."""

    split: str
    images: int
    positives: int
    tp: int
    fp: int
    printing: str  # whether the digits were cut off or rounded

    @property
    def fn(self) -> int:
        return self.positives - self.tp

    @property
    def tn(self) -> int:
        return self.images - self.positives - self.fp

    @property
    def sensitivity(self) -> float:
        return self.tp / self.positives

    @property
    def specificity(self) -> float:
        return self.tn / (self.images - self.positives)


def matching_matrices(printed: Mapping[str, str], splits: Mapping[str, int]) -> list[Matrix]:
    """Every confusion matrix, of any split and any number of positives, whose metrics are printed like the
    row, either all cut off or all rounded. `printed` has accuracy and recall as text, and any of precision,
    f1 and hard_auroc; `splits` has the number of images of each split."""
    found: dict[tuple[str, int, int, int], list[str]] = {}
    for split, images in splits.items():
        for printing in PRINTINGS:
            for counts in counts_in_split(printed, images, printing):
                found.setdefault((split, *counts), []).append(printing)
    return [
        Matrix(split, splits[split], positives, tp, fp, " or ".join(printings))
        for (split, positives, tp, fp), printings in found.items()
    ]


def ruled_out(matrix: Matrix, positives: Mapping[str, int]) -> str | None:
    """Why the matrix contradicts the known number of positives of its split; None where it does not."""
    known = positives.get(matrix.split)
    if known is None or known == matrix.positives:
        return None
    return f"there are {known:,} positives in {matrix.split}, not {matrix.positives:,}"


def shared_positives(rows: Iterable[Sequence[Matrix]]) -> tuple[str, int]:
    """The split and number of positives that most rows have a matrix of; `rows` has the matrices of each."""
    pairs = Counter(pair for row in rows for pair in {(one.split, one.positives) for one in row})
    return pairs.most_common(1)[0][0]


def counts_in_split(printed: Mapping[str, str], images: int, printing: str) -> list[tuple[int, int, int]]:
    """(positives, tp, fp) of each matching matrix. For each number of positives (axis 0), the accuracy leaves
    a few numbers of correct predictions (axis 1) and the recall a few of true positives (axis 2); these two
    give the false positives."""
    positives = np.arange(1, images)[:, None, None]
    negatives = images - positives
    tp = candidates(printed["recall"], positives, images)
    correct = candidates(printed["accuracy"], np.array(images), images)[:, None]
    positives, negatives, tp, fp = np.broadcast_arrays(positives, negatives, tp, negatives - correct + tp)
    predicted = tp + fp
    fractions = {
        "accuracy": (tp + negatives - fp, np.array(images)),
        "precision": (tp, np.maximum(predicted, 1)),  # 0 without positive predictions, as in scikit-learn
        "recall": (tp, positives),
        "f1": (2 * tp, predicted + positives),
        "hard_auroc": (tp * negatives + (negatives - fp) * positives, 2 * positives * negatives),
    }
    fits = (tp >= 0) & (tp <= positives) & (fp >= 0) & (fp <= negatives)
    for name, text in printed.items():
        fits &= is_printed_as(*fractions[name], text, printing)
    return list(zip(positives[fits].tolist(), tp[fits].tolist(), fp[fits].tolist(), strict=True))


def candidates(text: str, whole: Counts, most: int) -> Counts:
    """(..., K) whole numbers, among them all whose share of `whole` (..., 1) may be printed as `text`."""
    number, unit = digits(text)
    return np.asarray(number * whole // unit - 1 + np.arange(most // unit + 4))


def is_printed_as(numerator: Counts, denominator: Counts, text: str, printing: str) -> npt.NDArray[np.bool_]:
    """Whether each fraction is printed as `text`. Half a digit may have been rounded up or down."""
    number, unit = digits(text)
    if printing == "cut off":
        low, high = number * denominator, (number + 1) * denominator - 1
        return np.asarray((low <= numerator * unit) & (numerator * unit <= high))
    low, high = (2 * number - 1) * denominator, (2 * number + 1) * denominator
    return np.asarray((low <= 2 * numerator * unit) & (2 * numerator * unit <= high))


def digits(text: str) -> tuple[int, int]:
    """A printed number as numerator and denominator: 4929, 100000 of 0.04929; 10000, 10000 of 1.0."""
    unit = 10 ** max(MIN_DIGITS, len(text.partition(".")[2]))
    return round(float(text) * unit), unit
