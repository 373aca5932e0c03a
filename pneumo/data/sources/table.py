"""Any CSV of images and labels."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import OnDisk, _described, _has_lesion, need_choice, need_whole
from pneumo.data.tables import known, need_columns, read_table
from pneumo.data.validate import LABELS
from pneumo.errors import InputError


@dataclass(kw_only=True)
class Table(OnDisk):
    """Any CSV: `columns` says what its columns are called (image, label, patient, mask, rle, view, age, sex).

    Without a label column, an image is positive where its run-length code has a lesion.
    """

    table: str
    images: str = "."
    masks: str = "."
    columns: Mapping[str, str | None] = field(default_factory=lambda: {"image": "image", "label": "label"})
    rle_side_px: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        roles = ("image", "label", "patient", "mask", "rle", "view", "age", "sex")
        for role in self.columns:
            need_choice("columns", role, roles)
        if not self.columns.get("image") or not (self.columns.get("label") or self.columns.get("rle")):
            raise InputError("data.columns must name the columns of image and label (or of image and rle)")
        if self.columns.get("mask") and self.columns.get("rle"):
            raise InputError("data.columns names both mask and rle; a lesion is described by one of them")
        if self.rle_side_px is not None:
            need_whole("rle_side_px", self.rle_side_px, 1)

    def __call__(self) -> Cohort:
        path = self.folder() / self.table
        table = read_table(path)
        named = {role: column for role, column in self.columns.items() if column}
        need_columns(table, path, list(named.values()))
        image = table[named["image"]]
        draft = self._draft(table, self.table, image=_under(self.images, image)).assign(image_id=image)
        if "rle" in named:
            draft["rle"] = table[named["rle"]]
        label_name = named.get("label", named.get("rle", ""))
        draft["label"] = table[named["label"]] if "label" in named else _has_lesion(draft["rle"])
        if "mask" in named:
            mask = known(table[named["mask"]])
            positive = draft["label"].map(LABELS) == 1
            draft["mask"] = _under(self.masks, mask.where(positive))
        if "patient" in named:
            draft["patient_id"] = known(table[named["patient"]])
        roles = {role: named[role] for role in ("view", "age", "sex") if role in named}
        draft = draft.assign(**_described(table, **roles))
        return self._from_draft("table", draft, label_name, self.rle_side_px)


def _under(folder: str, paths: pd.Series) -> pd.Series:
    """Paths below a folder of the root; one that says nothing stays so."""
    under = "" if folder == "." else folder
    return paths.map(lambda path: path and os.path.join(under, path), na_action="ignore")  # noqa: PTH118
