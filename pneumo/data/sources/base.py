"""Base classes of the data sources. A source reads and checks tables; it decodes no image."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from pneumo.data.cohort import CORE, Cohort
from pneumo.data.tables import need_columns
from pneumo.data.validate import validate_draft, with_patients
from pneumo.errors import InputError, check_settings

COLUMN_VALUES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}  # of data.split_column


@dataclass(kw_only=True)
class Source:
    """Settings of all data sources, which `conf/data/_shared.yaml` describes."""

    names_patients: ClassVar[str] = "data.patients_csv=FILE"  # what a user sets to name the patients

    image_side_px: int = field(metadata={"at_least": 8})
    split: str = field(default="patient", metadata={"one_of": ("patient", "image", "column", "folds")})
    split_seed: int = field(default=0, metadata={"at_least": 0})
    split_column: str | None = None
    folds: int = field(default=5, metadata={"at_least": 3})
    fold: int = field(default=0, metadata={"at_least": 0})
    normalise: str = field(default="half", metadata={"one_of": ("half", "train", "none", "imagenet")})
    num_workers: int = field(default=4, metadata={"at_least": 0})
    patients_csv: str | None = None
    on_error: str = field(default="raise", metadata={"one_of": ("raise", "skip")})
    store_dir: str = "stores"

    def __post_init__(self) -> None:
        check_settings("data", self)
        if self.fold >= self.folds:
            raise InputError(f"data.fold is {self.fold}, must be below data.folds={self.folds}")
        if self.split == "column" and not self.split_column:
            raise InputError(
                "data.split=column needs data.split_column, the column that holds train, val or test"
            )

    def __call__(self) -> Cohort:
        """Reads and checks the tables and returns the cohort. Raises InputError."""
        raise NotImplementedError

    def _with_patients_csv(self, cohort: Cohort) -> Cohort:
        """Returns the cohort with the patients, views, ages and sexes of `patients_csv`, if that is set."""
        if self.patients_csv is None:
            return cohort
        table, notes = with_patients(cohort.table, cohort.root / Path(self.patients_csv).expanduser())
        return replace(cohort, table=table, notes=cohort.notes + notes)

    def _split_cells(self, table: pd.DataFrame, path: Path) -> dict[str, pd.Series]:
        """Returns the split column by its name, if the split is by column. InputError: the table lacks it."""
        if self.split != "column" or self.split_column is None:
            return {}
        need_columns(table, path, [self.split_column])
        return {self.split_column: table[self.split_column]}


@dataclass(kw_only=True)
class OnDisk(Source):
    """Base class of the sources that read a folder of images; paths in tables are relative to `root`."""

    root: str

    def folder(self) -> Path:
        """Returns the root. InputError: it does not exist, is no folder or may not be read."""
        folder = Path(self.root).expanduser()
        if not os.path.isdir(folder):  # noqa: PTH112, is_dir raises where a folder above may not be read
            there = os.path.lexists(folder)
            raise InputError(f"data.root: {folder} {'is not a folder' if there else 'is not there'}")
        if not os.access(folder, os.X_OK):
            raise InputError(f"data.root: {folder} may not be read")
        return folder

    def draft(self, table: pd.DataFrame, file: str, image: pd.Series) -> pd.DataFrame:
        """Returns the columns that every cohort has, for the rows of a table, with unknown patients, views,
        ages and sexes. The caller adds `image_id`, `label` ("0" or "1") and what else it knows.

        `file` is the name of the table under the root, and `image` has the paths of the images."""
        unknown = pd.Series(np.nan, index=table.index, dtype=object)
        columns = dict.fromkeys(("patient_id", "view", "age", "sex"), unknown)
        columns |= self._split_cells(table, self.folder() / file)
        return pd.DataFrame({"image": image, "file": file, "row": table.index, **columns})

    def cohort(
        self, name: str, draft: pd.DataFrame, label_name: str, rle_side_px: int | None = None
    ) -> Cohort:
        """Checks the rows of a draft (see `validate_draft`) and returns them as a cohort. `label_name` is
        what messages call the label; `rle_side_px` is the side of the images that run-length codes refer to,
        if it is not that of each image. Raises InputError."""
        from pneumo.data.decode.images import FilePixels, ImageFile  # imports Pillow

        root = self.folder()
        columns = [*CORE, *([self.split_column] if self.split == "column" and self.split_column else [])]
        table, notes, skipped = validate_draft(draft, root, label_name, self.on_error)
        masks = table["mask"] if "mask" in table else [None] * len(table)
        codes = table["rle"] if "rle" in table else [()] * len(table)
        files = [
            ImageFile(image, mask if isinstance(mask, str) else None, rle, rle_side_px)
            for image, mask, rle in zip(table["image"], masks, codes, strict=True)
        ]
        pixels = FilePixels(root, files)
        return self._with_patients_csv(
            Cohort(name, table[columns], pixels, root, notes=notes, skipped=skipped)
        )
