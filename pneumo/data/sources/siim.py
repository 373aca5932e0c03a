"""SIIM-ACR's run-length codes and DICOM folders, as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from pneumo.data.cohort import NO_LESION, known, need_columns, path_problems, read_table, sexes, years
from pneumo.data.decode.body_part import names_chest
from pneumo.data.decode.dicom import Header, headers
from pneumo.errors import one_line

Places = Mapping[str, Sequence[str]]  # where the files of an image id lie


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


def parse_rle(path: Path) -> pd.DataFrame:
    """The annotations, one row an image: image_id, label (1 = a lesion), rle (tuple of texts)."""
    table = read_rle(path)
    rle: dict[str, tuple[str, ...]] = {}
    for image, code in zip(table["ImageId"], table["EncodedPixels"], strict=True):
        rle[image] = rle.get(image, ()) + ((code,) if code not in NO_LESION else ())
    labels = [int(bool(codes)) for codes in rle.values()]
    return pd.DataFrame({"image_id": list(rle), "label": labels, "rle": list(rle.values())})


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
