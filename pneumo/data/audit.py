"""Checks of a data set that need all pixels: duplicates, some of them across splits, and sizes of lesions."""

# N images, M annotated lesions

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.decode.grayscale import Pixel
from pneumo.data.split import PARTS, Rows, Split
from pneumo.data.store import Store


@dataclass(frozen=True)
class Audit:
    """What `audit` found; duplicates are arrays of two or more rows with equal pixels."""

    duplicates: tuple[Rows, ...]
    duplicates_of_two_labels: tuple[Rows, ...]
    duplicates_across_splits: tuple[Rows, ...]  # the test then holds what was trained on
    lesion_shares: npt.NDArray[np.float64]  # (M,) of the image's area
    unannotated: int  # positives whose lesion nobody annotated


def audit(cohort: Cohort, store: Store, split: Split | None) -> Audit:
    """Reads the whole store once. Without a split, no duplicates lie across splits."""
    labels = cohort.table["label"].to_numpy()
    duplicates = duplicate_rows(store.pixels)
    split_of = np.zeros(len(cohort), np.int64)
    for number, name in enumerate(PARTS if split else ()):
        split_of[getattr(split, name)] = number
    return Audit(
        duplicates=duplicates,
        duplicates_of_two_labels=tuple(rows for rows in duplicates if len(set(labels[rows])) > 1),
        duplicates_across_splits=tuple(rows for rows in duplicates if len(set(split_of[rows])) > 1),
        lesion_shares=np.array([lesion.mean() for lesion in store.lesions]) / 255,
        unannotated=int(((labels == 1) & ~store.has_mask).sum()),
    )


def duplicate_rows(pixels: Pixel) -> tuple[Rows, ...]:
    """(N, side, side) -> the rows of images that are equal in every pixel, in row order."""
    digests = pd.Series([hashlib.blake2b(image, digest_size=16).digest() for image in pixels])
    repeated = digests[digests.duplicated(keep=False)]
    return tuple(np.array(rows) for rows in repeated.groupby(repeated, sort=False).groups.values())
