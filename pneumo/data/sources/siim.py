"""SIIM-ACR: its PNG release, and its first release as DICOM files with run-length codes."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.decode.body_part import names_chest
from pneumo.data.decode.header import Header
from pneumo.data.files import find_files
from pneumo.data.headers import headers_of
from pneumo.data.sources.base import OnDisk
from pneumo.data.tables import need_columns, read_patients, read_table
from pneumo.data.validate import LABELS, label_of_codes, path_problems
from pneumo.errors import InputError, listed, one_line

SIIM_SIDE_PX = 1024


def read_rle(path: Path) -> pd.DataFrame:
    """Reads the annotations: one row per lesion, with the columns ImageId and EncodedPixels. Copies of the
    file may have a byte-order mark, no header, or spaces before names and codes."""
    table = read_table(path)
    if "EncodedPixels" not in table.columns and len(table.columns) == 2:
        table = read_table(path, names=("ImageId", "EncodedPixels"))
    need_columns(table, path, ["ImageId", "EncodedPixels"])
    return table


def with_headers(draft: pd.DataFrame, root: Path, store_dir: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the draft with patient, view, age, sex and problems from the headers of its files, and notes
    for the user. Files that are missing or outside the root are not opened."""
    files = draft["image"].drop_duplicates()
    files = files[path_problems(root, files) == ""]
    names = [field.name for field in fields(Header)]
    read = pd.DataFrame(headers_of(root, list(files), store_dir), index=files, columns=names)
    header = read.reindex(draft["image"]).fillna("").set_index(draft.index)
    draft = draft.assign(
        problem=draft["problem"].where(draft["problem"] != "", header["problem"]),
        **read_patients(header, patient_id="patient_id", view="view", age="age", sex="sex"),
    )
    # a note, not an error: many chest radiographs are filed under another name
    other = read["body_part"][(read["body_part"] != "") & ~read["body_part"].map(names_chest)]
    most = other.value_counts().head(5).items()
    parts = ", ".join(f"{one_line(str(part))} ({count:,})" for part, count in most)
    return draft, (f"{len(other):,} headers name another body part than the chest: {parts}",) if parts else ()


@dataclass(kw_only=True)
class SiimPng(OnDisk):
    """The PNG release of SIIM-ACR, whose column `release` is the division it was published in: train or
    test."""

    def __call__(self) -> Cohort:
        drafts = []
        for release in ("train", "test"):
            path = self.folder() / f"stage_1_{release}_images.csv"
            table = read_table(path)
            need_columns(table, path, ["new_filename", "ImageId", "has_pneumo"])
            table["release"] = release
            positive = table["has_pneumo"].map(LABELS) == 1
            drafts.append(
                self.draft(table, path.name, image="png_images/" + table["new_filename"]).assign(
                    image_id=table["ImageId"],
                    label=table["has_pneumo"],  # not from the file name, which has it too
                    mask=("png_masks/" + table["new_filename"]).where(positive),
                )
            )
        return self.cohort("siim_png", pd.concat(drafts, ignore_index=True), "has_pneumo")


@dataclass(kw_only=True)
class SiimDicom(OnDisk):
    """The first release of SIIM-ACR: DICOM files named by ImageId, in folders of any depth below `images`,
    and a table of run-length codes, which may be gzipped. Patient, view, age and sex come from the
    headers."""

    images: str
    table: str

    def __call__(self) -> Cohort:
        path = self.folder() / self.table
        if not path.exists() and (zipped := path.with_name(path.name + ".gz")).is_file():
            path = zipped
        table = read_rle(path)
        paths, notes = self._paths()
        ids, codes = table["ImageId"], table["EncodedPixels"]
        image = ids.map(lambda name: paths.get(name, [f"{self.images}/**/{name}.dcm"])[0] if name else "")
        twice = {
            name: f"{name}.dcm lies in {len(files)} folders: {' and '.join(files[:2])}"
            for name, files in paths.items()
            if len(files) > 1
        }
        problem = ids.map(lambda name: twice.get(name, ""))
        draft = self.draft(table, path.name, image).assign(
            image_id=ids, rle=codes, label=label_of_codes(codes), problem=problem
        )
        draft, header_notes = with_headers(draft, self.folder(), Path(self.store_dir))
        cohort = self.cohort("siim_dicom", draft, "EncodedPixels", SIIM_SIDE_PX)
        if left := sorted(set(paths) - set(ids)):
            example = one_line(paths[left[0]][0])
            notes += (f"{len(left):,} images have no row in {path.name}, e.g. {example}",)
        return replace(cohort, notes=notes + header_notes + cohort.notes)

    def _paths(self) -> tuple[dict[str, list[str]], tuple[str, ...]]:
        """Returns the paths of the files of each image id, and notes on folders that may not be read."""
        root = self.folder()
        if Path(self.images).is_absolute():
            raise InputError(f'data.images is "{self.images}", must be relative to data.root')
        if not (root / self.images).is_dir():
            raise InputError(f'data.images: no folder "{self.images}" in {root}')
        there = find_files(root, self.images, ".dcm")
        closed = tuple(f"folder may not be read: {one_line(folder)}" for folder in there.closed)
        if closed and self.on_error == "raise":
            raise InputError(listed(f"{root}: {len(closed):,} folders may not be read:", closed))
        if not there.files:
            raise InputError(f'data.images: no .dcm file below "{self.images}" in {root}')
        paths: dict[str, list[str]] = {}
        for file in there.files:
            paths.setdefault(Path(file).stem, []).append(file)
        return paths, closed
