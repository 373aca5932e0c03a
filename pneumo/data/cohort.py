"""The cohort: a table with one row an image, and how these rows become pixels.

Every source drafts such a table as text, with the file and row that each image came from; `validate_draft`
refuses or leaves out the rows that are wrong; what remains is a Cohort.
"""

# N images of the cohort, b of a block, m masks of a block; pixels and masks uint8

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from pneumo.data.decode.grayscale import Pixel
from pneumo.errors import InputError

Digests = npt.NDArray[np.int64]  # (N, 2): of a row's image and of its lesion

CORE = ("image_id", "patient_id", "label", "where", "view", "age", "sex")


@dataclass(frozen=True)
class PixelBlock:
    """Some consecutive rows of a cohort as pixels."""

    pixels: Pixel  # (b, side, side); zeros where the row could not be decoded
    masks: Pixel  # (m, side, side): one for each True of has_mask, 255 where wholly lesion
    has_mask: npt.NDArray[np.bool_]  # (b,)
    problems: Mapping[int, str]  # position in the block -> why that row cannot be decoded


class Pixels(Protocol):
    """How the rows of a cohort become pixels."""

    def digests(self, store_dir: Path | None = None) -> Digests:
        """(N, 2): 64-bit hashes of what each row's image and lesion are made from; 0 for no lesion.

        Files whose hash is kept in store_dir and that did not change since are not read again.
        """

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        """All rows, in row order, resized to side_px x side_px."""

    def files(self) -> Sequence[str]:
        """The files that are read, each once, relative to the cohort's root."""

    def at(self, rows: Sequence[int]) -> "Pixels":
        """These rows alone."""


@dataclass(frozen=True)
class Cohort:
    """The images of one source: what is known of each, and how its pixels are read.

    The table has a RangeIndex and one row an image: image_id (str, unique), patient_id (str), label
    (0 or 1), where ("table.csv row 812"), view ("AP", "PA", ...), age (years), sex ("F", "M"), and the
    split column if one was asked for. What is unknown is missing (`isna()`).
    """

    name: str
    table: pd.DataFrame
    pixels: Pixels
    root: Path = Path()  # the folder of the files that `where` names
    notes: tuple[str, ...] = ()  # warnings to print
    skipped: tuple[str, ...] = ()  # rows left out under on_error=skip, one line each
    namespace: str = ""  # image ids mean the same images in cohorts of one namespace; "": in all

    def __len__(self) -> int:
        return len(self.table)

    def groups(self) -> npt.NDArray[np.int64]:
        """The patient of each image as a number (N,); an image without a known patient has one of its own."""
        patients = self.table["patient_id"]
        own = "image " + self.table["image_id"]
        codes, _ = pd.factorize(("patient " + patients.astype(object)).where(patients.notna(), own))
        return codes.astype(np.int64)

    def without(self, problems: Mapping[int, str]) -> "Cohort":
        """This cohort without some rows (row number -> why); `pixels` stays that of all rows. InputError:
        only one class is left."""
        where = self.table["where"]
        lines = tuple(f"{where.iloc[row]}: {problem}" for row, problem in problems.items())
        table = self.table.drop(index=list(problems)).reset_index(drop=True)
        need_both_classes(table["label"], self.name)
        return replace(self, table=table, skipped=self.skipped + lines)


def need_both_classes(labels: pd.Series, name: str) -> None:
    """InputError: no images, or only positives, or only negatives."""
    positives = int((labels == 1).sum())
    if not len(labels):
        raise InputError(f"{name}: no image is left")
    if positives in (0, len(labels)):
        lacking = "positive" if positives == 0 else "negative"
        raise InputError(f"{name}: none of the {len(labels):,} images is {lacking}; both classes are needed")
