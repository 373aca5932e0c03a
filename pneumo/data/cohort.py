"""The table every source yields, and what is refused before a pixel is read.

A source drafts a table (one row an image, as text, with the file and row each came from); `checked`
refuses or leaves out what is wrong with it, all rows at once; what remains is a Cohort.
"""

# N images of the cohort, b of a block, m masks of a block; pixels and masks uint8

import os
import stat
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from pneumo.errors import InputError, listed, one_line

Pixel = npt.NDArray[np.uint8]
Digests = npt.NDArray[np.int64]  # (N, 2): of a row's picture and of its lesion

CORE = ("image_id", "patient_id", "label", "where", "view", "age", "sex")
NO_LESION = ("-1", "")  # of a run-length code
LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
OLDEST_YEARS = 120  # NIH's table holds ages up to 414


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a cohort as pixels."""

    pixels: Pixel  # (b, side, side); zeros where the row could not be decoded
    masks: Pixel  # (m, side, side): one for each True of has_mask, 255 where wholly lesion
    has_mask: npt.NDArray[np.bool_]  # (b,)
    problems: Mapping[int, str]  # position in the block -> why that row cannot be decoded


class Pixels(Protocol):
    """How the rows of a cohort become pixels."""

    def digests(self, store_dir: Path | None = None) -> Digests:
        """(N, 2): 64-bit hashes of what each row's picture and lesion are made from; 0 for no lesion.

        Files that are remembered in store_dir and did not change since are not read again.
        """

    def blocks(self, side_px: int) -> Iterator[Block]:
        """All rows, in row order, resized to side_px x side_px."""

    def files(self) -> Sequence[str]:
        """The files that are read, each once, relative to the cohort's root."""

    def at(self, rows: Sequence[int]) -> "Pixels":
        """These rows alone."""


@dataclass(frozen=True)
class Cohort:
    """The images of one source: what is known of each, and how to get its pixels.

    The table has a RangeIndex and one row an image: image_id (str, unique), patient_id (str), label
    (0 or 1), where ("table.csv row 812"), view ("AP", "PA", ...), age (years), sex ("F", "M"), and the
    split column if one was asked for. What is unknown is missing (`isna()`).
    """

    name: str
    table: pd.DataFrame
    pixels: Pixels
    root: Path = Path()  # the folder of the files that `where` names
    notes: tuple[str, ...] = ()  # what must be said loudly
    skipped: tuple[str, ...] = ()  # rows left out under on_error=skip, one line each
    namespace: str = ""  # image ids mean the same pictures in cohorts of one namespace; "": the ids alone say

    def __len__(self) -> int:
        return len(self.table)

    def groups(self) -> npt.NDArray[np.int64]:
        """A number for each image (N,): equal for one patient's images, its own where none is known."""
        patients = self.table["patient_id"]
        own = "image " + self.table["image_id"]
        codes, _ = pd.factorize(("patient " + patients.astype(object)).where(patients.notna(), own))
        return codes.astype(np.int64)

    def without(self, problems: Mapping[int, str]) -> "Cohort":
        """Leave rows out, and say why; the pixels stay those of all rows."""
        where = self.table["where"]
        lines = tuple(f"{where.iloc[row]}: {problem}" for row, problem in problems.items())
        table = self.table.drop(index=list(problems)).reset_index(drop=True)
        need_both_classes(table["label"], self.name)
        return replace(self, table=table, skipped=self.skipped + lines)


def read_table(path: Path, names: Sequence[str] | None = None) -> pd.DataFrame:
    """A CSV file (.gz too) as stripped text; the index is the row in the file, its header being row 1.

    `names` are the columns of a file without a header.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
                index_col=False,  # else rows longer than `names` make the first column an index
                names=list(names) if names else None,
                header=None,  # else of two columns of one name the second is given another
                compression="gzip" if path.suffix == ".gz" else None,
            )
    except pd.errors.ParserWarning:
        raise InputError(f"{path} cannot be read as a table: its rows have more cells than columns") from None
    except FileNotFoundError:
        raise InputError(f"{path} is not there") from None
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise InputError(f"{path} is not UTF-8 text (byte 0x{wrong:02x}): save it again as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, ValueError, zlib.error) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path} cannot be read as a table: {str(error).strip()}") from None
    if not names:
        table.columns = pd.Index(table.iloc[0].str.strip())
        table = table.iloc[1:].loc[:, table.columns != ""]
    if any("\0" in column for column in table.columns):
        raise InputError(f"{path} is not UTF-8 text (zero bytes in its header): save it again as UTF-8")
    if doubled := sorted(set(table.columns[table.columns.duplicated()])):
        raise InputError(f'{path} has the column "{doubled[0]}" twice')
    table = table.fillna("").apply(lambda cells: cells.str.strip())
    table.index = pd.RangeIndex(1 if names else 2, len(table) + (1 if names else 2))
    table = pd.DataFrame(table.loc[(table != "").any(axis=1)])
    if table.empty:
        raise InputError(f"{path} has no rows")
    return table


def need_columns(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column, naming those it has."""
    if missing := [column for column in columns if column not in table.columns]:
        lacking = ", ".join(f'"{column}"' for column in missing)
        raise InputError(f"{path} has no column {lacking}; it has: {', '.join(table.columns)}")


def known(cells: pd.Series) -> pd.Series:
    """The cells of a text column; missing where they say nothing."""
    return cells.where(~cells.str.lower().isin(["", "nan", "none", "null", "na", "n/a", "unknown"]))


def years(cells: pd.Series) -> pd.Series:
    """Ages as numbers of years: "58", "058Y", "060M" (months), "014D" (days); nonsense is missing."""
    parts = cells.str.upper().str.extract(r"^(\d+(?:\.\d+)?)([YMWD]?)$")
    per_year = parts[1].map({"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25})
    ages = pd.to_numeric(parts[0], errors="coerce") / per_year
    return ages.where(ages <= OLDEST_YEARS)


def flags(cells: pd.Series) -> pd.Series:
    """True of 1, true and yes; everything else is False."""
    return cells.str.lower().isin(["1", "1.0", "true", "yes"])


def sexes(cells: pd.Series) -> pd.Series:
    """F or M from whatever begins with it; else missing."""
    first = cells.str.upper().str[:1]
    return first.where(first.isin(["F", "M"]))


def checked(
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


def need_both_classes(labels: pd.Series, name: str) -> None:
    """Refuse a cohort that has nothing to tell apart."""
    positives = int((labels == 1).sum())
    if not len(labels):
        raise InputError(f"{name}: no image is left")
    if positives in (0, len(labels)):
        lacking = "positive" if positives == 0 else "negative"
        raise InputError(f"{name}: none of the {len(labels):,} images is {lacking}; both classes are needed")


def of_images(path: Path) -> pd.DataFrame:
    """A table that describes images, one row each, by image id. InputError: no column has the ids, or one
    image has two patients."""
    known_of = read_table(path)
    named = {column.lower().replace(" ", "_"): column for column in known_of.columns}
    key = next(
        (named[name] for name in ("image_id", "imageid", "image_index", "image") if name in named), None
    )
    if key is None:
        raise InputError(f"{path} has no column image_id; it has: {', '.join(known_of.columns)}")
    if "patient_id" in known_of:
        two = known_of.groupby(key)["patient_id"].nunique()
        if (two > 1).any():
            image = two.index[two > 1][0]
            rows = ", ".join(f"{row:,}" for row in known_of.index[known_of[key] == image])
            raise InputError(f'{path} rows {rows}: image "{image}" has {two[image]} patients')
    return known_of.drop_duplicates(key).set_index(key, drop=False).rename_axis(None)


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
