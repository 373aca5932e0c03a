"""SIIM-ACR, as its PNG release and as the DICOM files and run-length codes it was first released as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.decode.body_part import names_chest
from pneumo.data.files import find_files
from pneumo.data.sources.base import OnDisk, _has_lesion
from pneumo.data.tables import known, need_columns, read_table, sexes, years
from pneumo.data.validate import LABELS, path_problems
from pneumo.errors import InputError, listed, one_line

Places = Mapping[str, Sequence[str]]  # where the files of an image id lie

SIIM_SIDE_PX = 1024


def table_path(path: Path) -> Path:
    """The table, which may lie there gzipped."""
    zipped = path.with_name(path.name + ".gz")
    return zipped if zipped.is_file() and not path.exists() else path


def read_rle(path: Path) -> pd.DataFrame:
    """The annotations, a row a lesion, with the columns ImageId and EncodedPixels.

    The file has several rows an image, a space before its second column's name (in some copies before
    the codes), and in some copies a byte-order mark or no header.
    """
    table = read_table(path)
    if "EncodedPixels" not in table.columns and len(table.columns) == 2:
        table = read_table(path, names=("ImageId", "EncodedPixels"))
    need_columns(table, path, ["ImageId", "EncodedPixels"])
    return table


def doubled(ids: pd.Series, places: Places) -> pd.Series:
    """What is wrong with images whose file lies in two folders: nobody can say which is meant."""
    said: dict[str, str] = {
        image: f"{image}.dcm lies in {len(files)} folders: {' and '.join(files[:2])}"
        for image, files in places.items()
        if len(files) > 1
    }
    return ids.map(lambda image: said.get(image, ""))


def unnamed(ids: pd.Series, places: Places, table: str) -> tuple[str, ...]:
    """What to say of files that no row names."""
    if not (left := sorted(set(places) - set(ids))):
        return ()
    return (f"{len(left):,} images have no row in {table}, e.g. {one_line(places[left[0]][0])}",)


def with_headers(draft: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """What the headers of the files that are there say, and what to say of it.

    A file that leads out of the root is not opened.
    """
    from pneumo.data.decode.dicom import Header, headers  # costs half a second, which others need not pay

    files = draft["image"].drop_duplicates()
    files = files[path_problems(root, files) == ""]
    names = [field.name for field in fields(Header)]
    header = pd.DataFrame(headers(root, list(files)), index=files, columns=names)
    said = header.reindex(draft["image"]).fillna("").set_index(draft.index)
    draft = draft.assign(
        patient_id=known(said["patient_id"]),
        view=known(said["view"]),
        age=years(said["age"]),
        sex=sexes(said["sex"]),
        problem=draft["problem"].where(draft["problem"] != "", said["problem"]),
    )
    return draft, _other_parts(header["body_part"])


def _other_parts(parts: pd.Series) -> tuple[str, ...]:
    """Many a chest is filed under another name, so this is said, not refused."""
    other = parts[(parts != "") & ~parts.map(names_chest)]
    if other.empty:
        return ()
    names = ", ".join(
        f"{one_line(str(part))} ({count:,})" for part, count in other.value_counts().head(5).items()
    )
    return (f"{len(other):,} headers name another body part than the chest: {names}",)


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
        path = table_path(self.folder() / self.table)
        table = read_rle(path)
        places, closed = self._places()
        ids, codes = table["ImageId"], table["EncodedPixels"]
        nowhere = f"{self.images}/**/"
        image = ids.map(lambda name: places.get(name, [f"{nowhere}{name}.dcm"])[0] if name else "")
        draft = self._draft(table, path.name, image).assign(
            image_id=ids, rle=codes, label=_has_lesion(codes), problem=doubled(ids, places)
        )
        draft, other_parts = with_headers(draft, self.folder())
        cohort = self._from_draft("siim_dicom", draft, "EncodedPixels", SIIM_SIDE_PX)
        notes = (*closed, *unnamed(ids, places, path.name), *other_parts)
        return replace(cohort, notes=notes + cohort.notes)

    def _places(self) -> tuple[dict[str, list[str]], tuple[str, ...]]:
        """Where the file of each image id lies, and what to say of folders that were not looked into."""
        root = self.folder()
        if Path(self.images).is_absolute():
            raise InputError(f'data.images is "{self.images}", must be relative to data.root')
        if not (root / self.images).is_dir():
            raise InputError(f'data.images: no folder "{self.images}" in {root}')
        there = find_files(root, self.images, ".dcm")
        closed = tuple(f"not looked into: {one_line(folder)}" for folder in there.closed)
        if closed and self.on_error == "raise":
            raise InputError(listed(f"{root}: {len(closed):,} folders could not be looked into:", closed))
        if not there.files:
            raise InputError(f'data.images: no .dcm file below "{self.images}" in {root}')
        places: dict[str, list[str]] = {}
        for file in there.files:
            places.setdefault(Path(file).stem, []).append(file)
        return places, closed
