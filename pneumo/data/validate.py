"""Finds the wrong rows of a source's table, before any image is read, and refuses them or leaves them out."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo.data.cohort import need_both_classes
from pneumo.data.decode.lesion_rle import NO_LESION
from pneumo.data.reasons import by_reason
from pneumo.data.tables import need_columns, of_images, read_patients, unread_notes
from pneumo.errors import InputError, listed, one_line

NO_ROW = 0  # the row of images that are in no table, whose `file` is the image itself
REMEDY = (
    "Correct them, or use data.on_error=skip to leave them out (the run lists them). pneumo data check finds "
    "all such rows at once, with the files that cannot be read."
)
LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}


def validate_draft(
    draft: pd.DataFrame, root: Path, label_name: str, on_error: str
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Checks the rows of a draft. Raises InputError, which lists the wrong rows, or leaves them out if
    on_error is "skip".

    The columns of a draft are image_id, label (text), image (a path under the root), file and row (where the
    row is from), patient_id, view, age, sex, and optionally mask (a path), rle (text) and problem (what its
    source found wrong, "" if nothing). Returns the table with one row per image, whose label is a number and
    whose rle a tuple of texts; notes for the user; and a line for each row that was left out."""
    draft = draft.reset_index(drop=True)
    labels = draft["label"]
    problems = (f'{label_name} is "' + labels + '", must be 0 or 1').where(
        labels != "", f"{label_name} is empty"
    )
    problems = problems.where(~labels.isin(list(LABELS)), "")
    if "problem" in draft:
        problems = problems.where(draft["problem"] == "", draft["problem"])
    problems = problems.where((problems != "") | (draft["image_id"] != ""), "the image id is empty")
    for column in ("image", "mask"):
        if column in draft:
            problems = problems.where(problems != "", path_problems(root, draft[column]))
    if "rle" in draft:
        contradicts = (draft["label"].map(LABELS) == 0) & (label_of_codes(draft["rle"]) == "1")
        text = f"{label_name} is " + draft["label"] + ", but its run-length code has a lesion"
        problems = problems.where((problems != "") | ~contradicts, text)
    duplicates = _duplicate_problems(draft.assign(label=draft["label"].map(LABELS)))
    problems = problems.where(problems != "", duplicates).map(one_line)
    where = draft["file"] + (" row " + draft["row"].map("{:,}".format)).where(draft["row"] != NO_ROW, "")
    wrong = problems != ""
    if wrong.any() and (on_error == "raise" or wrong.all()):
        raise refusal(root, where, dict(zip(np.flatnonzero(wrong).tolist(), problems[wrong], strict=True)))
    skipped = tuple(where[wrong] + ": " + problems[wrong])
    kept = draft.assign(where=where, label=draft["label"].map(LABELS))[~wrong]
    table, notes = _one_row_per_image(kept.astype({"label": np.int64}))
    need_both_classes(table["label"], str(root))
    return table, notes, skipped


def refusal(root: Path, where: pd.Series, problems: Mapping[int, str]) -> InputError:
    """Returns the error that lists what is wrong with rows (position in `where` -> problem), by reason."""
    rows = sorted(problems)
    if not where.str.contains(r" row [\d,]+$").any():
        reasons = by_reason((where.iloc[row], problems[row]) for row in rows)
        lines = [text if place in text else f"{place}: {text}" for place, text in reasons]
        text = listed(f"{root}: {len(rows):,} of {len(where):,} images cannot be used:", lines)
        return InputError(f"{text}\n{REMEDY}")
    files = where.str.replace(r" row [\d,]+$", "", regex=True)
    bad_files = set(files.iloc[rows])
    if len(bad_files) == 1:
        (file,) = bad_files
        places = [place.removeprefix(file).strip() for place in where.iloc[rows]]
        heading, total = str(root / file), int((files == file).sum())
    else:
        places = where.iloc[rows].tolist()
        heading, total = str(root), len(where)
    reasons = by_reason((place, problems[row]) for place, row in zip(places, rows, strict=True))
    width = max(len(place) for place, _ in reasons[:10])
    lines = [f"{place:<{width}}  {text}" for place, text in reasons]
    text = listed(f"{heading}: {len(rows):,} of {total:,} rows cannot be used:", lines)
    return InputError(f"{text}\n{REMEDY}")


def with_patients(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table with patient, view, age and sex from a CSV file of image ids, where that has them,
    and a note on images that it lacks. Raises InputError."""
    patients = of_images(path)
    need_columns(patients, path, ["patient_id"])
    table = table.copy()
    named = {name: name for name in ("patient_id", "view", "age", "sex")}
    columns = read_patients(patients, **named)
    for column, cells in columns.items():
        found = table["image_id"].map(cells)
        table[column] = found.where(found.notna(), table[column])
    absent = int((~table["image_id"].isin(patients.index)).sum())
    lacking = (f"{path.name}: {absent:,} of {len(table):,} images are not in it",) if absent else ()
    return table, (*(f"{path.name}: {note}" for note in unread_notes(patients, **named)), *lacking)


def label_of_codes(codes: pd.Series) -> pd.Series:
    """Returns the label "1" for run-length codes with a lesion, and "0" for others."""
    return (~codes.isin(list(NO_LESION))).map({True: "1", False: "0"})


def path_problems(root: Path, paths: pd.Series) -> pd.Series:
    """Returns what is wrong with each path, "" if it is a file under the root after links are followed."""
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

    problems = {path: problem(path) for path in paths.dropna().unique()}
    return paths.map(lambda path: problems.get(path, ""))  # a missing path means that there is no mask


def _duplicate_problems(draft: pd.DataFrame) -> pd.Series:
    """Returns a problem for all rows of an image whose rows disagree on its id, label or patient."""
    problems: dict[object, str] = {}
    of_files = draft.groupby("image")["image_id"].transform("nunique")
    for file, rows in draft[of_files > 1].groupby("image", sort=False):
        names = " and ".join(f'"{name}"' for name in rows["image_id"].unique())
        problems |= dict.fromkeys(rows.index, f"{names} are the same file, {file}")
    for column, name in (("label", "label"), ("patient_id", "patient")):
        values = draft.groupby("image_id")[column].transform("nunique")
        for image, rows in draft[values > 1].groupby("image_id", sort=False):
            firsts = rows[rows[column].notna()].drop_duplicates(column)
            values = firsts[column].map(
                lambda value: f"{value:g}" if isinstance(value, float) else str(value)
            )
            places = values + " in " + firsts["file"] + " row " + firsts["row"].map("{:,}".format)
            problems |= dict.fromkeys(rows.index, f'image "{image}" has {name} {" and ".join(places)}')
    return pd.Series([problems.get(row, "") for row in draft.index], index=draft.index, dtype=object)


def _one_row_per_image(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the first row of each image, with the run-length codes of all its rows, and notes."""
    again = rows["image_id"].duplicated()
    notes: tuple[str, ...] = ()
    if "rle" in rows:  # such a table has one row per lesion
        lesions = rows.groupby("image_id", sort=False)["rle"].agg(tuple)
        rows = rows.assign(rle=rows["image_id"].map(lesions))
    elif again.any():
        notes = (f"{int(again.sum()):,} rows repeat an image and are ignored",)
    return rows[~again].reset_index(drop=True), notes
