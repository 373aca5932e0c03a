"""What only a look at all pixels can tell of a data set: twins, leaks and the sizes of lesions."""

# N images, M drawn lesions

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.decode.grayscale import Pixel
from pneumo.data.split import Rows, Split
from pneumo.data.store import Store


@dataclass(frozen=True)
class Audit:
    twins: tuple[Rows, ...]  # rows of equal pixels, two or more each
    twins_of_two_labels: tuple[Rows, ...]
    twins_apart: tuple[Rows, ...]  # in two parts of the split: the test then holds what was trained on
    patients_apart: int  # in two parts of the split
    lesion_shares: npt.NDArray[np.float64]  # (M,) of the image's area
    undrawn: int  # positives whose lesion nobody drew


def audit(cohort: Cohort, store: Store, split: Split | None) -> Audit:
    """Reads the whole store once."""
    labels = cohort.table["label"].to_numpy()
    twins = duplicate_rows(store.pixels)
    part = part_of(split, len(cohort)) if split else np.zeros(len(cohort), np.int64)
    return Audit(
        twins=twins,
        twins_of_two_labels=tuple(rows for rows in twins if len(set(labels[rows])) > 1),
        twins_apart=tuple(rows for rows in twins if len(set(part[rows])) > 1),
        patients_apart=int((pd.Series(part).groupby(cohort.groups()).nunique() > 1).sum()),
        lesion_shares=np.array([lesion.mean() for lesion in store.lesions]) / 255,
        undrawn=int(((labels == 1) & ~store.has_mask).sum()),
    )


def duplicate_rows(pixels: Pixel) -> tuple[Rows, ...]:
    """(N, side, side) -> the rows of pictures that are equal to the last bit, in row order."""
    marks = pd.Series([hashlib.blake2b(picture, digest_size=16).digest() for picture in pixels])
    alike = marks[marks.duplicated(keep=False)]
    return tuple(np.array(rows) for rows in alike.groupby(alike, sort=False).groups.values())


def part_of(split: Split, n_images: int) -> Rows:
    """(N,) 0 train, 1 val, 2 test"""
    part = np.zeros(n_images, np.int64)
    part[split.val], part[split.test] = 1, 2
    return part
