"""A CSV file of images and labels, with any column names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import OnDisk
from pneumo.data.tables import known, need_columns, read_patients, read_table
from pneumo.data.validate import LABELS, label_of_codes
from pneumo.errors import InputError


@dataclass(kw_only=True)
class Table(OnDisk):
    """A CSV file, and `columns`: the names of its columns of image, label, patient, mask, rle, view, age and
    sex. Without a label column, an image is positive if its run-length code has a lesion."""

    table: str
    images: str = "."
    masks: str = "."
    columns: Mapping[str, str | None] = field(default_factory=lambda: {"image": "image", "label": "label"})
    rle_side_px: int | None = field(default=None, metadata={"at_least": 1})

    def __post_init__(self) -> None:
        super().__post_init__()
        roles = ("image", "label", "patient", "mask", "rle", "view", "age", "sex")
        if other := [role for role in self.columns if role not in roles]:
            raise InputError(f"data.columns must be some of {', '.join(roles)}, got {other[0]!r}")
        if not self.columns.get("image") or not (self.columns.get("label") or self.columns.get("rle")):
            raise InputError("data.columns must name the columns of image and label (or of image and rle)")
        if self.columns.get("mask") and self.columns.get("rle"):
            raise InputError("data.columns names both mask and rle; a lesion is described by one of them")

    def __call__(self) -> Cohort:
        path = self.folder() / self.table
        table = read_table(path)
        named = {role: column for role, column in self.columns.items() if column}
        need_columns(table, path, list(named.values()))
        image = table[named["image"]]
        draft = self.draft(table, self.table, image=_under(self.images, image)).assign(image_id=image)
        if "rle" in named:
            draft["rle"] = table[named["rle"]]
        label_name = named.get("label", named.get("rle", ""))
        draft["label"] = table[named["label"]] if "label" in named else label_of_codes(draft["rle"])
        if "mask" in named:
            mask = known(table[named["mask"]])
            positive = draft["label"].map(LABELS) == 1
            draft["mask"] = _under(self.masks, mask.where(positive))
        roles = {"patient_id": "patient", "view": "view", "age": "age", "sex": "sex"}
        patients = {column: named[role] for column, role in roles.items() if role in named}
        draft = draft.assign(**read_patients(table, **patients))
        return self.cohort("table", draft, label_name, self.rle_side_px)


def _under(folder: str, paths: pd.Series) -> pd.Series:
    """Returns paths below a folder of the root; empty and missing ones stay as they are."""
    under = "" if folder == "." else folder
    return paths.map(lambda path: path and os.path.join(under, path), na_action="ignore")  # noqa: PTH118
