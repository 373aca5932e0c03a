"""The cohort: a table with one row per image, and an object that reads the pixels of these rows.

A source drafts the table as text, with the file and row that each image comes from; `validate_draft` refuses
or leaves out wrong rows, and the rest becomes a Cohort. N is the number of images of the cohort, b that of a
block and m the number of masks of a block; pixels and masks are uint8."""

import re
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
    """The pixels of some consecutive rows of a cohort."""

    pixels: Pixel  # (b, side, side); zeros where the row could not be decoded
    masks: Pixel  # (m, side, side): one for each True of has_mask; 255 means wholly lesion
    has_mask: npt.NDArray[np.bool_]  # (b,)
    problems: Mapping[int, str]  # position in the block -> why that row cannot be decoded
    largest_px: int = 0  # the longest side of its files; 0: they are not from files


class Pixels(Protocol):
    """Reads the pixels of the rows of a cohort."""

    def digests(self, store_dir: Path | None = None) -> Digests:
        """Returns (N, 2) 64-bit hashes of the sources of each row's image and lesion; 0 means no lesion.
        Files that are unchanged since their hash was kept in store_dir are not read again."""

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        """Yields all rows, in order, resized to side_px x side_px."""

    def files(self) -> Sequence[str]:
        """Returns the files that are read, each once, relative to the cohort's root."""

    def at(self, rows: Sequence[int]) -> "Pixels":
        """Returns the pixels of these rows."""


@dataclass(frozen=True)
class Cohort:
    """The images of one source.

    The table has a RangeIndex and one row per image: image_id (str, unique), patient_id (str), label (0 or
    1), where ("table.csv row 812"), view ("AP", "PA", ...), age (years), sex ("F", "M"), the split column if
    the split is by column, and style if the phantom has several. Unknown values are missing (`isna()`)."""

    name: str
    table: pd.DataFrame
    pixels: Pixels
    root: Path = Path()  # the folder of the files that `where` names
    columns: str = ""  # which columns of its table were read, and how, where that was recognised
    notes: tuple[str, ...] = ()  # warnings to print
    skipped: tuple[str, ...] = ()  # rows left out under on_error=skip, one line each
    namespace: str = ""  # equal image ids are the same image in cohorts of one namespace
    patient_namespace: str = ""  # and equal patient ids the same patient

    def __len__(self) -> int:
        return len(self.table)

    def groups(self) -> npt.NDArray[np.int64]:
        """Returns the patient of each image as a number (N,); an image without a patient has its own
        number."""
        patients = self.table["patient_id"]
        own = "image " + self.table["image_id"]
        codes, _ = pd.factorize(("patient " + patients.astype(object)).where(patients.notna(), own))
        return codes.astype(np.int64)

    def without(self, problems: Mapping[int, str]) -> "Cohort":
        """Returns this cohort without some rows (row number -> reason); `pixels` remains that of all rows.
        Raises InputError if only one class is left."""
        where = self.table["where"]
        lines = tuple(f"{where.iloc[row]}: {problem}" for row, problem in problems.items())
        skipped = tuple(sorted(self.skipped + lines, key=_place))
        table = self.table.drop(index=list(problems)).reset_index(drop=True)
        need_both_classes(table["label"], self.name)
        return replace(self, table=table, skipped=skipped)


def _place(line: str) -> tuple[str, int]:
    """Returns the file and the row, 0 where there is none, of a row that is left out."""
    match = re.match(r"(.*?)(?: row ([\d,]+))?: ", line)
    return (match[1], int((match[2] or "0").replace(",", ""))) if match else (line, 0)


def need_both_classes(labels: pd.Series, name: str) -> None:
    """Raises InputError if labels (0 or 1) are not of both classes."""
    positives = int((labels == 1).sum())
    if not len(labels):
        raise InputError(f"{name}: no image is left")
    if positives in (0, len(labels)):
        lacking = "positive" if positives == 0 else "negative"
        raise InputError(f"{name}: none of the {len(labels):,} images is {lacking}; both classes are needed")
