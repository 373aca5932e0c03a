"""Where the images come from: each source is a dataclass whose fields are its config and whose call
gives a Cohort."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo.data.cohort import (
    CORE,
    LABELS,
    NO_LESION,
    Block,
    Cohort,
    Digests,
    known,
    need_columns,
    read_table,
    sexes,
    years,
)
from pneumo.data.contents import hash_of
from pneumo.data.files import found
from pneumo.data.sources.base import OnDisk, Source, need_choice, need_whole
from pneumo.errors import InputError, listed, one_line

SIIM_SIDE_PX = 1024


@dataclass(kw_only=True)
class Phantom(Source):
    """Drawn radiographs with SIIM's statistics: no download, the same for the same seed."""

    n_images: int = 2800
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 64 <= self.image_side_px <= 1024:
            raise InputError(
                f"data.image_side_px is {self.image_side_px}; the phantom is drawn from 64 to 1024"
            )
        need_whole("n_images", self.n_images, 20)
        need_whole("seed", self.seed, 0)

    def __call__(self) -> Cohort:
        from pneumo.data import phantom

        studies = phantom.studies(self.n_images, self.seed)
        rows = pd.Series(np.arange(1, len(studies) + 1), index=studies.index)
        by_column = self._split_cells(studies, Path("phantom"))
        table = studies.assign(where="phantom row " + rows.map("{:,}".format))[[*CORE, *by_column]]
        drawn = Drawn(studies, self.seed)
        naming = f"phantom {phantom.VERSION} {self.seed} {self.n_images}"  # one id, other pictures
        cohort = Cohort("phantom", table.reset_index(drop=True), drawn, namespace=naming)
        return self._finished(cohort)


@dataclass(frozen=True)
class Drawn:
    """Pixels that are drawn, not read."""

    studies: pd.DataFrame
    seed: int

    def digests(self, store_dir: Path | None = None) -> Digests:
        """(N, 2), of the drawing's version, its seed and every figure of a row."""
        from pneumo.data import phantom

        drawn = f"phantom {phantom.VERSION} {self.seed}"
        pictures = [hash_of(f"{drawn} {row}".encode()) for row in self.studies.itertuples(False, None)]
        return np.column_stack([pictures, np.where(self.studies["area"] > 0, pictures, 0)])

    def blocks(self, side_px: int) -> Iterator[Block]:
        """All rows, in row order."""
        from pneumo.data import phantom

        for pixels, masks in phantom.draw(self.studies, side_px, self.seed):
            has_mask = np.asarray(masks.any(axis=(1, 2)))
            yield Block(pixels, masks[has_mask], has_mask, {})

    def files(self) -> Sequence[str]:
        """None."""
        return ()

    def at(self, rows: Sequence[int]) -> "Drawn":
        """These rows alone."""
        return replace(self, studies=self.studies.iloc[list(rows)])


@dataclass(kw_only=True)
class SiimPng(OnDisk):
    """The PNG release of SIIM-ACR; its own division is the column `release` (train, test)."""

    def __call__(self) -> Cohort:
        parts = []
        for release in ("train", "test"):
            path = self.folder() / f"stage_1_{release}_images.csv"
            table = read_table(path)
            need_columns(table, path, ["new_filename", "ImageId", "has_pneumo"])
            table["release"] = release
            positive = table["has_pneumo"].map(LABELS) == 1
            parts.append(
                self._draft(table, path.name, image="png_images/" + table["new_filename"]).assign(
                    image_id=table["ImageId"],
                    label=table["has_pneumo"],  # never the file name, which gives it away
                    mask=("png_masks/" + table["new_filename"]).where(positive),
                )
            )
        return self._from_draft("siim_png", pd.concat(parts, ignore_index=True), "has_pneumo")


@dataclass(kw_only=True)
class SiimDicom(OnDisk):
    """SIIM-ACR as first released: DICOM files in folders of any depth, each named by its ImageId, and a table
    of run-length codes. Patient, view, age and sex come from the headers."""

    images: str
    table: str

    def __call__(self) -> Cohort:
        from pneumo.data.sources import siim

        path = siim.table_path(self.folder() / self.table)
        table = siim.read_rle(path)
        places, closed = self._places()
        ids, codes = table["ImageId"], table["EncodedPixels"]
        nowhere = f"{self.images}/**/"
        image = ids.map(lambda name: places.get(name, [f"{nowhere}{name}.dcm"])[0] if name else "")
        draft = self._draft(table, path.name, image).assign(
            image_id=ids, rle=codes, label=_has_lesion(codes), problem=siim.doubled(ids, places)
        )
        draft, other_parts = siim.with_headers(draft, self.folder())
        cohort = self._from_draft("siim_dicom", draft, "EncodedPixels", SIIM_SIDE_PX)
        notes = (*closed, *siim.unnamed(ids, places, path.name), *other_parts)
        return replace(cohort, notes=notes + cohort.notes)

    def _places(self) -> tuple[dict[str, list[str]], tuple[str, ...]]:
        """Where the file of each image id lies, and what to say of folders that were not looked into."""
        root = self.folder()
        if Path(self.images).is_absolute():
            raise InputError(f'data.images is "{self.images}", must be relative to data.root')
        if not (root / self.images).is_dir():
            raise InputError(f'data.images: no folder "{self.images}" in {root}')
        there = found(root, self.images, ".dcm")
        closed = tuple(f"not looked into: {one_line(folder)}" for folder in there.closed)
        if closed and self.on_error == "raise":
            raise InputError(listed(f"{root}: {len(closed):,} folders could not be looked into:", closed))
        if not there.files:
            raise InputError(f'data.images: no .dcm file below "{self.images}" in {root}')
        places: dict[str, list[str]] = {}
        for file in there.files:
            places.setdefault(Path(file).stem, []).append(file)
        return places, closed


@dataclass(kw_only=True)
class Nih(OnDisk):
    """ChestX-ray14's table and pictures; positive are those whose report mentions `finding`."""

    table: str
    images: str
    finding: str = "Pneumothorax"

    def __call__(self) -> Cohort:
        path = self.folder() / self.table
        table = read_table(path)
        need_columns(table, path, ["Image Index", "Finding Labels", "Patient ID"])
        findings = table["Finding Labels"].str.split("|").map(lambda named: [one.strip() for one in named])
        there = sorted({one for named in findings for one in named} - {"", "No Finding"})
        if self.finding not in there:
            raise InputError(f'data.finding is "{self.finding}"; {path} has: {", ".join(there)}')
        label = findings.map(lambda named: "" if named == [""] else str(int(self.finding in named)))
        draft = self._draft(table, self.table, image=self._places(table["Image Index"])).assign(
            image_id=table["Image Index"],
            label=label,
            patient_id=known(table["Patient ID"]),
            **_described(table, view="View Position", age="Patient Age", sex="Patient Gender"),
        )
        return self._from_draft("nih", draft, "Finding Labels")

    def _places(self, names: pd.Series) -> pd.Series:
        """Where each picture lies: `images` may be a pattern, since the release has twelve folders."""
        root = self.folder()
        try:
            folders = sorted(folder for folder in root.glob(self.images) if folder.is_dir())
        except (NotImplementedError, ValueError):
            raise InputError(f'data.images is "{self.images}", must be relative to data.root') from None
        if not folders:
            raise InputError(f'data.images: no folder "{self.images}" in {root}')
        place_of = {
            file.name: str(file.relative_to(root))
            for folder in reversed(folders)
            for file in folder.iterdir()
        }
        return names.map(lambda name: place_of.get(name, f"{self.images}/{name}" if name else ""))


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


def _has_lesion(codes: pd.Series) -> pd.Series:
    return (~codes.isin(list(NO_LESION))).map({True: "1", False: "0"})


def _described(table: pd.DataFrame, **columns: str) -> dict[str, pd.Series]:
    """View, age and sex from the named columns, where the table has them."""
    readers = {"view": known, "age": years, "sex": sexes}
    return {role: readers[role](table[column]) for role, column in columns.items() if column in table}


def _under(folder: str, paths: pd.Series) -> pd.Series:
    """Paths below a folder of the root; one that says nothing stays so."""
    under = "" if folder == "." else folder
    return paths.map(lambda path: path and os.path.join(under, path), na_action="ignore")  # noqa: PTH118
