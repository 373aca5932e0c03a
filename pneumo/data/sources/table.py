"""A table file of images and labels, with any column names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.columns import AUTO, NAMES, NONE, named_columns, of_two_roles, recognised, unused_patients
from pneumo.data.labels import label_problems, read_labels
from pneumo.data.locate import locate
from pneumo.data.sources.base import OnDisk
from pneumo.data.tables import known, read_described, read_patients, unread_notes
from pneumo.data.validate import LABELS, label_of_codes
from pneumo.errors import InputError


def _all_recognised() -> dict[str, str | None]:
    return dict.fromkeys(NAMES, AUTO)


@dataclass(kw_only=True)
class Table(OnDisk):
    """A CSV file, Excel or Parquet file, and `columns`: the names of its columns of image, label, patient,
    mask, rle, view, age and sex, "auto" to recognise one by its name, or None. Without a label column, an
    image is positive if its run-length code has a lesion. `positive` is the label that is positive, where
    that cannot be known."""

    names_patients: ClassVar[str] = "data.columns.patient=COLUMN or data.patients_csv=FILE"

    table: str
    images: str = "."
    masks: str = "."
    columns: Mapping[str, str | None] = field(default_factory=_all_recognised)
    positive: str | int | None = None
    rle_side_px: int | None = field(default=None, metadata={"at_least": 1})

    def __post_init__(self) -> None:
        super().__post_init__()
        if other := [role for role in self.columns if role not in NAMES]:
            raise InputError(f"data.columns must be some of {', '.join(NAMES)}, got {other[0]!r}")
        given = {role for role, column in self.columns.items() if column not in (None, NONE)}
        if "image" not in given or not given & {"label", "rle"}:
            raise InputError("data.columns must name the columns of image and label (or of image and rle)")
        named = {role for role in given if self.columns[role] != AUTO}
        if {"mask", "rle"} <= named:
            raise InputError("data.columns names both mask and rle; a lesion is described by one of them")

    def __call__(self) -> Cohort:
        root = self.folder()
        path = self._path(root)
        table, written = read_described(path)
        named = named_columns(table, path, self.columns)
        self._need_roles(table, path, named)
        cells = table[named["image"]]
        images = locate(root, self.images, cells, "image")
        draft = self.draft(table, self.table, image=images.paths).assign(image_id=cells)
        if "rle" in named:
            draft["rle"] = table[named["rle"]]
        label_name, read_as = named.get("label", named.get("rle", "")), ""
        if "label" in named:
            draft["label"], read_as = read_labels(table[named["label"]], path, label_name, self.positive)
            draft["problem"] = label_problems(draft["label"], label_name)
        else:
            draft["label"] = label_of_codes(draft["rle"])
        remarks = [*written, read_as, images.remark]
        if "mask" in named:
            is_positive = draft["label"].map(LABELS) == 1
            masks = locate(root, self.masks, known(table[named["mask"]]).where(is_positive), "mask")
            draft["mask"] = masks.paths
            remarks.append(masks.remark and f"masks: {masks.remark}")
        roles = {"patient_id": "patient", "view": "view", "age": "age", "sex": "sex"}
        patients = {column: named[role] for column, role in roles.items() if role in named}
        draft = draft.assign(**read_patients(table, **patients))
        cohort = self.cohort("table", draft, label_name, self.rle_side_px)
        columns = ", ".join(f"{role}={column}" for role, column in named.items())
        description = "; ".join([columns, *filter(None, remarks)])
        notes = (*self._patient_notes(table, path, named), *unread_notes(table, **patients), *cohort.notes)
        return replace(cohort, columns=description, notes=notes)

    def _path(self, root: Path) -> Path:
        """Returns the path of the table. InputError: it is not there, but below the working directory."""
        path = root / Path(self.table).expanduser()
        here = Path(self.table).absolute()
        if not path.exists() and here.is_file():
            inside = here.is_relative_to(root.absolute())
            here = here.relative_to(root.absolute()) if inside else here
            raise InputError(f"data.table: {path} is not there; data.table={here}?")
        return path

    def _need_roles(self, table: pd.DataFrame, path: Path, named: Mapping[str, str]) -> None:
        """InputError: no column is recognised as the image or label, or both mask and rle are there."""
        for role, instead in (("image", ""), ("label", "rle")):
            if role not in named and instead not in named:
                for other, column in named.items():
                    if recognised([column], role):
                        raise InputError(of_two_roles(path, column, other, role))
                if len(table.columns) == 1:
                    raise InputError(
                        f'{path} has one column, "{table.columns[0]}"; cells must be separated by commas, '
                        "semicolons, tabs or bars"
                    )
                raise InputError(
                    f"{path}: no column is recognised as the {role}; it has: {', '.join(table.columns)}: "
                    f"data.columns.{role}=COLUMN"
                )
        if {"mask", "rle"} <= named.keys():
            raise InputError(
                f'{path}: "{named["mask"]}" holds masks and "{named["rle"]}" run-length codes, of which one '
                f"describes a lesion; choose: data.columns.mask={NONE} or data.columns.rle={NONE}"
            )

    def _patient_notes(self, table: pd.DataFrame, path: Path, named: Mapping[str, str]) -> tuple[str, ...]:
        """A note on a column that looks like one of patients and is not used."""
        if "patient" in named or self.patients_csv:
            return ()
        column = unused_patients(table, list(named.values()), table[named["image"]])
        if column is None:
            return ()
        n_values, n_images = table[column].nunique(), table[named["image"]].nunique()
        return (
            f'the column "{column}" looks like patients ({n_values:,} values for {n_images:,} images) and is '
            f"not used: data.columns.patient={column}",
        )
