"""From printed figures back to the counts they were computed from.

A table's accuracy, precision, recall, F1 and "ROC-AUC" are fractions of whole numbers of images. Every
confusion matrix of every split size is asked whether it prints like that; the arithmetic is in whole numbers,
so nothing is lost to rounding of our own."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
DIGITS = 4  # at least: 1.0 and 0.0 are printed without their zeros
PRINTINGS = ("cut off", "rounded")


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix that prints like the row, and how the digits were made."""

    split: str
    images: int
    positives: int
    tp: int
    fp: int
    printing: str

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
    """Every matrix of every split, with any number of positives, that prints all figures of a row: all of
    them cut off, or all of them rounded. `printed`: accuracy and recall as text, and any of precision, f1
    and hard_auroc; `splits`: images by name."""
    found: dict[tuple[str, int, int, int], list[str]] = {}
    for split, images in splits.items():
        for printing in PRINTINGS:
            for counts in of_split(printed, images, printing):
                found.setdefault((split, *counts), []).append(printing)
    return [
        Matrix(split, splits[split], positives, tp, fp, " or ".join(printings))
        for (split, positives, tp, fp), printings in found.items()
    ]


def ruled_out(matrix: Matrix, positives: Mapping[str, int]) -> str | None:
    """Why it cannot be what was measured, by what is known of the splits: `positives` by name."""
    known = positives.get(matrix.split)
    if known is None or known == matrix.positives:
        return None
    return f"there are {known:,} positives in {matrix.split}, not {matrix.positives:,}"


def shared_positives(rows: Iterable[Sequence[Matrix]]) -> tuple[str, int]:
    """The split and its number of positives that explain most rows at once."""
    explained = Counter(pair for row in rows for pair in {(one.split, one.positives) for one in row})
    return explained.most_common(1)[0][0]


def of_split(printed: Mapping[str, str], images: int, printing: str) -> list[tuple[int, int, int]]:
    """(positives, tp, fp) of each. For each number of positives (axis 0), accuracy leaves a few numbers of
    right answers (axis 1) and recall a few of true positives (axis 2), and both those of false positives."""
    positives = np.arange(1, images)[:, None, None]
    negatives = images - positives
    tp = near(printed["recall"], positives, images)
    right = near(printed["accuracy"], np.array(images), images)[:, None]
    positives, negatives, tp, fp = np.broadcast_arrays(positives, negatives, tp, negatives - right + tp)
    called = tp + fp
    fractions = {
        "accuracy": (tp + negatives - fp, np.array(images)),
        "precision": (
            tp,
            np.maximum(called, 1),
        ),  # 0 where nothing is called positive, as scikit-learn has it
        "recall": (tp, positives),
        "f1": (2 * tp, called + positives),
        "hard_auroc": (tp * negatives + (negatives - fp) * positives, 2 * positives * negatives),
    }
    fits = (tp >= 0) & (tp <= positives) & (fp >= 0) & (fp <= negatives)
    for name, text in printed.items():
        fits &= prints(*fractions[name], text, printing)
    return list(zip(positives[fits].tolist(), tp[fits].tolist(), fp[fits].tolist(), strict=True))


def near(text: str, whole: Counts, most: int) -> Counts:
    """(..., K) whole numbers that hold all whose share of `whole` (..., 1) could print like that."""
    number, unit = digits(text)
    return np.asarray(number * whole // unit - 1 + np.arange(most // unit + 4))


def prints(above: Counts, below: Counts, text: str, printing: str) -> npt.NDArray[np.bool_]:
    """Whether above / below prints like that. Half a digit may be rounded up or down."""
    number, unit = digits(text)
    if printing == "cut off":
        fits = (number * below <= above * unit) & (above * unit < (number + 1) * below)
    else:
        fits = ((2 * number - 1) * below <= 2 * above * unit) & (2 * above * unit <= (2 * number + 1) * below)
    return np.asarray(fits)


def digits(text: str) -> tuple[int, int]:
    """0.04929 -> 4929, 100000; 1.0 -> 10000, 10000"""
    unit = 10 ** max(DIGITS, len(text.partition(".")[2]))
    return round(float(text) * unit), unit
