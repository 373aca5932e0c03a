"""Tables as columns of text, and columns of text as patients, views, ages and sexes."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pneumo.data.table_file import read_cells
from pneumo.errors import InputError, one_line

OLDEST_YEARS = 120  # NIH's table holds ages up to 414
VIEWS = ("AP", "PA")  # others are kept and not counted


def read_table(path: Path, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads a table file (see `read_cells`) as stripped text. The index is the row in the file, where the
    header is row 1, or of Parquet, which has none, the number of the row. `names` are the columns of a file
    without a header. Raises InputError, which names the file."""
    return read_described(path, names)[0]


def read_described(path: Path, names: Sequence[str] | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table that `read_table` reads, and remarks on how its file is written."""
    read = read_cells(path, names)
    table, first_row = read.cells, read.first_row
    if not names:
        table.columns = pd.Index(table.iloc[0].fillna("").str.strip())
        table = table.iloc[1:].loc[:, table.columns != ""]
        first_row += 1
    if any("\0" in column for column in table.columns):
        raise InputError(f"{path} is not UTF-8 text (zero bytes in its header): save it again as UTF-8")
    if doubled := sorted(set(table.columns[table.columns.duplicated()])):
        raise InputError(f'{path} has the column "{doubled[0]}" twice')
    table = table.fillna("").apply(lambda cells: cells.str.strip())
    table.index = pd.RangeIndex(first_row, len(table) + first_row)
    table = pd.DataFrame(table.loc[(table != "").any(axis=1)])
    if table.empty:
        raise InputError(f"{path} has no rows")
    return table, read.remarks


def need_columns(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
    """Raises InputError if a table lacks a column; the message names the columns it has."""
    if missing := [column for column in columns if column not in table.columns]:
        lacking = ", ".join(f'"{column}"' for column in missing)
        raise InputError(f"{path} has no column {lacking}; it has: {', '.join(table.columns)}")


def known(cells: pd.Series) -> pd.Series:
    """Returns the cells of a text column; those that mean "unknown" are missing."""
    return cells.where(~cells.str.lower().isin(["", "nan", "none", "null", "na", "n/a", "unknown"]))


def years(cells: pd.Series) -> pd.Series:
    """Returns ages in years, of cells such as "58", "58,5", "058Y", "060M" (months) or "014D" (days); any
    other is missing."""
    parts = cells.str.upper().str.replace(",", ".").str.extract(r"^(\d+(?:\.\d+)?)([YMWD]?)$")
    per_year = parts[1].map({"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25})
    ages = pd.to_numeric(parts[0], errors="coerce") / per_year
    return ages.where(ages <= OLDEST_YEARS)


def flags(cells: pd.Series) -> pd.Series:
    """Returns True for 1, true and yes, and False for everything else."""
    return cells.str.lower().isin(["1", "1.0", "true", "yes"])


def sexes(cells: pd.Series) -> pd.Series:
    """Returns F or M for cells that begin with it, or mean it in another language; any other is missing."""
    first = cells.str.upper().str[:1]
    return cells.str.lower().map(OTHER_SEXES).fillna(first.where(first.isin(["F", "M"])))


def views(cells: pd.Series) -> pd.Series:
    """Returns known views, of which AP and PA may be in small letters."""
    return known(cells).where(~cells.str.upper().isin(VIEWS), cells.str.upper())


OTHER_SEXES = {
    **dict.fromkeys(("w", "woman", "weiblich", "mujer", "mulher", "donna"), "F"),
    **dict.fromkeys(("hombre", "homme", "homem", "uomo"), "M"),
}
READERS = {"patient_id": known, "view": views, "age": years, "sex": sexes}
EXPECTED = {"view": "AP or PA", "age": "ages such as 58, 058Y or 060M", "sex": "F or M"}


def read_patients(table: pd.DataFrame, **columns: str) -> dict[str, pd.Series]:
    """Returns the columns patient_id, view, age and sex of the cohort (those that are given), read from the
    named columns of the table (those it has)."""
    return {to: READERS[to](table[column]) for to, column in columns.items() if column in table}


def unread_notes(table: pd.DataFrame, **columns: str) -> tuple[str, ...]:
    """Returns a note on each of the columns of `read_patients` of which less than half of the known cells can
    be read."""
    notes = []
    for to, column in columns.items():
        if to not in EXPECTED or column not in table:
            continue
        cells = known(table[column]).dropna()
        values = READERS[to](cells)
        read = values.isin(VIEWS) if to == "view" else values.notna()
        if 2 * read.sum() < len(cells):
            n_read = f"{int(read.sum()):,} of {len(cells):,}" if read.any() else f"none of {len(cells):,}"
            example = one_line(str(cells[~read].iloc[0]))
            notes.append(
                f'the column "{column}" is read as the {to}, but {n_read} cells are {EXPECTED[to]}, '
                f'e.g. "{example}": is it the right column?'
            )
    return tuple(notes)


def of_images(path: Path) -> pd.DataFrame:
    """Reads a table with one row per image, indexed by image id. Raises InputError if there is no column of
    image ids, or if one image has two patients."""
    table = read_table(path)
    named = {column.lower().replace(" ", "_"): column for column in table.columns}
    keys = [named[name] for name in ("image_id", "imageid", "image_index", "image") if name in named]
    if not keys:
        raise InputError(f"{path} has no column image_id; it has: {', '.join(table.columns)}")
    key = keys[0]
    if "patient_id" in table:
        n_patients = table.groupby(key)["patient_id"].nunique()
        if (n_patients > 1).any():
            image = n_patients.index[n_patients > 1][0]
            rows = ", ".join(f"{row:,}" for row in table.index[table[key] == image])
            raise InputError(f'{path} rows {rows}: image "{image}" has {n_patients[image]} patients')
    return table.drop_duplicates(key).set_index(key, drop=False).rename_axis(None)
