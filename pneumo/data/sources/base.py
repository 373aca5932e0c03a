"""What every source of images has in common. Nothing is decoded here, and neither torch nor Pillow is
imported before a source is called."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pneumo.data.cohort import CORE, Cohort
from pneumo.data.decode.lesion_rle import NO_LESION
from pneumo.data.tables import known, need_columns, sexes, years
from pneumo.data.validate import validate_draft, with_patients
from pneumo.errors import InputError

if TYPE_CHECKING:
    from pneumo.data.decode.images import FilePixels

SPLITS = ("patient", "image", "column", "folds")
NORMALISE = ("half", "train", "none", "imagenet")
ON_ERROR = ("raise", "skip")


@dataclass(kw_only=True)
class Source:
    """What all sources share; `conf/data/_shared.yaml` says what each field means."""

    image_side_px: int
    split: str = "patient"
    split_seed: int = 0
    split_column: str | None = None
    folds: int = 5
    fold: int = 0
    normalise: str = "half"
    num_workers: int = 4
    patients_csv: str | None = None
    on_error: str = "raise"
    store_dir: str = "stores"

    def __post_init__(self) -> None:
        need_choice("split", self.split, SPLITS)
        need_choice("normalise", self.normalise, NORMALISE)
        need_choice("on_error", self.on_error, ON_ERROR)
        for name, smallest in (("image_side_px", 8), ("split_seed", 0), ("folds", 3), ("num_workers", 0)):
            need_whole(name, getattr(self, name), smallest)
        need_whole("fold", self.fold, 0)
        if self.fold >= self.folds:
            raise InputError(f"data.fold is {self.fold}, must be below data.folds={self.folds}")
        if self.split == "column" and not self.split_column:
            raise InputError(
                "data.split=column needs data.split_column, the column that says train, val or test"
            )

    def __call__(self) -> Cohort:
        """Read and check the tables; nothing is decoded. Raises InputError."""
        raise NotImplementedError

    def _finished(self, cohort: Cohort) -> Cohort:
        """Add the patients of `patients_csv`."""
        if self.patients_csv is not None:
            path = cohort.root / Path(self.patients_csv).expanduser()
            table, notes = with_patients(cohort.table, path)
            cohort = replace(cohort, table=table, notes=cohort.notes + notes)
        return cohort

    def _split_cells(self, table: pd.DataFrame, path: Path) -> dict[str, pd.Series]:
        """The split column, if the split is by column; a table without it is refused."""
        if self.split != "column" or self.split_column is None:
            return {}
        need_columns(table, path, [self.split_column])
        return {self.split_column: table[self.split_column]}


@dataclass(kw_only=True)
class OnDisk(Source):
    """A folder of pictures; every path in its tables is relative to `root` and stays under it."""

    root: str

    def folder(self) -> Path:
        """The root, which must be there."""
        folder = Path(self.root).expanduser()
        if not os.path.isdir(folder):  # noqa: PTH112, is_dir raises where a folder above may not be read
            there = os.path.lexists(folder)
            raise InputError(f"data.root: {folder} {'is not a folder' if there else 'is not there'}")
        if not os.access(folder, os.X_OK):
            raise InputError(f"data.root: {folder} may not be read")
        return folder

    def _from_draft(
        self, name: str, draft: pd.DataFrame, label_name: str, rle_side_px: int | None = None
    ) -> Cohort:
        root = self.folder()
        by_column = [self.split_column] if self.split == "column" and self.split_column else []
        table, notes, skipped = validate_draft(draft, root, label_name, self.on_error)
        pixels = _files(root, table, rle_side_px)
        return self._finished(Cohort(name, table[[*CORE, *by_column]], pixels, root, notes, skipped))

    def _draft(self, table: pd.DataFrame, file: str, image: pd.Series) -> pd.DataFrame:
        """The columns that every draft has, for the rows of a table; what a source knows more, it adds."""
        unknown = pd.Series(np.nan, index=table.index, dtype=object)
        described = dict.fromkeys(("patient_id", "view", "age", "sex"), unknown)
        by_column = self._split_cells(table, self.folder() / file)
        return pd.DataFrame({"image": image, "file": file, "row": table.index, **described, **by_column})


def _files(root: Path, table: pd.DataFrame, rle_side_px: int | None) -> "FilePixels":
    from pneumo.data.decode.images import FilePixels, ImageFile

    masks = table["mask"] if "mask" in table else [None] * len(table)
    codes = table["rle"] if "rle" in table else [()] * len(table)
    return FilePixels(
        root,
        [
            ImageFile(image, mask if isinstance(mask, str) else None, rle, rle_side_px)
            for image, mask, rle in zip(table["image"], masks, codes, strict=True)
        ],
    )


def need_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f'data.{name} is "{value}", must be one of: {", ".join(choices)}')


def need_whole(name: str, value: object, smallest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise InputError(f'data.{name} is "{value}", must be a whole number of at least {smallest}')


def _has_lesion(codes: pd.Series) -> pd.Series:
    return (~codes.isin(list(NO_LESION))).map({True: "1", False: "0"})


def _described(table: pd.DataFrame, **columns: str) -> dict[str, pd.Series]:
    """View, age and sex from the named columns, where the table has them."""
    readers = {"view": known, "age": years, "sex": sexes}
    return {role: readers[role](table[column]) for role, column in columns.items() if column in table}
