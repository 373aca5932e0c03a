"""CSV files as columns of text, and what such a column says: ages, sexes, views."""

import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pneumo.errors import InputError

OLDEST_YEARS = 120  # NIH's table holds ages up to 414


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
