"""What is wrong with the rows of a source's table; refused or left out before an image is read."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo.data.cohort import need_both_classes
from pneumo.data.decode.lesion_rle import NO_LESION
from pneumo.data.tables import known, need_columns, of_images, sexes, years
from pneumo.errors import InputError, listed, one_line

LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}


def validate_draft(
    draft: pd.DataFrame, root: Path, label_name: str, on_error: str
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Refuse what is wrong with a drafted table, all rows at once, or leave it out (on_error=skip).

    The draft's columns: image_id, label (text), image (path under the root), file and row (where it
    stands), patient_id, view, age, sex, and perhaps mask (path), rle (text) and problem (what its source
    found wrong, "" = nothing). Returns the table, with label a number and one row an image (its rle a tuple
    of texts), the notes and the skipped rows.
    """
    draft = draft.reset_index(drop=True)
    problems = _label_problems(draft["label"], label_name)
    problems = problems.where((problems != "") | (draft["image_id"] != ""), "the image id is empty")
    for column in ("image", "mask"):
        if column in draft:
            problems = problems.where(problems != "", path_problems(root, draft[column]))
    if "problem" in draft:
        problems = problems.where(problems != "", draft["problem"])
    if "rle" in draft:
        drawn = (draft["label"].map(LABELS) == 0) & ~draft["rle"].isin(NO_LESION)
        said = f"{label_name} is " + draft["label"] + ", but its run-length code has a lesion"
        problems = problems.where((problems != "") | ~drawn, said)
    doubled = _doubled_problems(draft.assign(label=draft["label"].map(LABELS)))
    problems = problems.where(problems != "", doubled).map(one_line)
    where = draft["file"] + " row " + draft["row"].map("{:,}".format)
    wrong = problems != ""
    if wrong.any() and (on_error == "raise" or wrong.all()):
        raise refusal(root, where, dict(zip(np.flatnonzero(wrong).tolist(), problems[wrong], strict=True)))
    skipped = tuple(where[wrong] + ": " + problems[wrong])
    kept = draft.assign(where=where, label=draft["label"].map(LABELS))[~wrong]
    table, notes = _one_row_an_image(kept.astype({"label": np.int64}))
    need_both_classes(table["label"], str(root))
    return table, notes, skipped


def refusal(root: Path, where: pd.Series, problems: Mapping[int, str]) -> InputError:
    """The error that lists rows (positions in `where` -> what is wrong) in file order."""
    rows = sorted(problems)
    files = where.str.replace(r" row [\d,]+$", "", regex=True)
    bad_files = set(files.iloc[rows])
    if len(bad_files) == 1:
        (file,) = bad_files
        places = [place.removeprefix(file).strip() for place in where.iloc[rows]]
        heading, total = str(root / file), int((files == file).sum())
    else:
        places = where.iloc[rows].tolist()
        heading, total = str(root), len(where)
    width = max(map(len, places[:10]))
    lines = [f"{place:<{width}}  {problems[row]}" for place, row in zip(places, rows, strict=True)]
    said = listed(f"{heading}: {len(rows):,} of {total:,} rows cannot be used:", lines)
    return InputError(
        f"{said}\nMend them, or data.on_error=skip to leave them out (a list goes into the run)."
    )


def with_patients(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Take patient, view, age and sex from a CSV of image ids, where it has them; and what to say of it."""
    known_of = of_images(path)
    need_columns(known_of, path, ["patient_id"])
    readers = {"patient_id": known, "view": known, "age": years, "sex": sexes}
    table = table.copy()
    for column, read in readers.items():
        if column in known_of:
            found = table["image_id"].map(read(known_of[column]))
            table[column] = found.where(found.notna(), table[column])
    absent = int((~table["image_id"].isin(known_of.index)).sum())
    return table, (f"{path.name}: {absent:,} of {len(table):,} images are not in it",) if absent else ()


def _label_problems(labels: pd.Series, name: str) -> pd.Series:
    said = (f'{name} is "' + labels + '", must be 0 or 1').where(labels != "", f"{name} is empty")
    return said.where(~labels.isin(list(LABELS)), "")


def path_problems(root: Path, paths: pd.Series) -> pd.Series:
    """What is wrong with each path ("" = nothing): it must be a file whose real place is under the root."""
    real_root = os.path.realpath(root)
    folder_is_inside: dict[str, bool] = {}  # links are followed once a folder, not once for every file

    def inside(path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(real_root)

    def problem(path: str) -> str:
        if not path:
            return "the path is empty"
        full = os.path.join(real_root, path)  # noqa: PTH118, a Path costs a million rows half a minute
        folder = os.path.dirname(full)  # noqa: PTH120
        try:
            if folder not in folder_is_inside:
                folder_is_inside[folder] = inside(folder)
            if not folder_is_inside[folder]:
                return f"{path} leads out of {root}"
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                if not inside(full):
                    return f"{path} is a link that leads out of {root}"
                status = os.stat(full)  # noqa: PTH116
        except PermissionError:
            return f"{path} is in a folder that may not be read"
        except (OSError, ValueError):  # a null byte in a path is a ValueError
            return f"{path} is not there"
        return "" if stat.S_ISREG(status.st_mode) else f"{path} is not a file"

    said = {path: problem(path) for path in paths.dropna().unique()}
    return paths.map(lambda path: said.get(path, ""))  # missing: no mask


def _doubled_problems(draft: pd.DataFrame) -> pd.Series:
    """An image whose rows disagree on its label or patient: nobody can say which is right, so all are bad."""
    said: dict[object, str] = {}
    for column, name in (("label", "label"), ("patient_id", "patient")):
        values = draft.groupby("image_id")[column].transform("nunique")
        for image, rows in draft[values > 1].groupby("image_id", sort=False):
            firsts = rows[rows[column].notna()].drop_duplicates(column)
            places = [
                f"{value} in {file} row {row:,}"
                for value, file, row in zip(
                    firsts[column].map(_plain), firsts["file"], firsts["row"], strict=True
                )
            ]
            said |= dict.fromkeys(rows.index, f'image "{image}" has {name} {" and ".join(places)}')
    return pd.Series([said.get(row, "") for row in draft.index], index=draft.index, dtype=object)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_row_an_image(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows of one image become one: the first, with the lesions of all."""
    again = rows["image_id"].duplicated()
    if "rle" in rows:
        lesions = rows.groupby("image_id", sort=False)["rle"].agg(tuple)
        rows = rows.assign(rle=rows["image_id"].map(lesions))
        notes: tuple[str, ...] = ()  # several rows an image are what such a table is made of
    else:
        notes = (
            (f"{int(again.sum()):,} rows name an image a second time and count once",) if again.any() else ()
        )
    return rows[~again].reset_index(drop=True), notes
