"""Reads the cells of a table file, however it is written: CSV with any usual separator and encoding, Excel or
Parquet."""

import codecs
import csv
import gzip
import io
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pneumo.errors import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
BYTE_ORDER_MARKS = {  # UTF-32 first, whose mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
EXCEL, OLD_EXCEL, PARQUET = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1"

KINDS_OF_ENDINGS = {".xlsx": "Excel", ".xlsm": "Excel", ".xls": "Excel", ".parquet": "Parquet"}


@dataclass(frozen=True)
class Cells:
    """The cells of a table as text, header included, which may have missing cells."""

    cells: pd.DataFrame
    first_row: int  # the row of the header, counted from 1; 0 where the file has none, as Parquet
    remarks: tuple[str, ...]  # how the file is written, where that is not commas and UTF-8


def read_cells(path: Path, names: Sequence[str] | None = None) -> Cells:
    """Reads a table file; `names` are the columns of a file without a header.

    The separator is the one of commas, semicolons, tabs and bars that is most frequent in the first row. Text
    that is not UTF-8 is read as Windows-1252, of which Latin-1 is a part. Raises InputError, which names the
    file."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is not there{_tables_there(path)}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    if content.startswith((EXCEL, OLD_EXCEL)):
        return _read_excel(path, content)
    if content.startswith(PARQUET):
        return _read_parquet(path, content)
    text, remarks = _decoded(path, content)
    first, _, rest = text.partition("\r" if "\n" not in text else "\n")
    named = first.strip().lower().removeprefix("sep=") if first.lower().startswith("sep=") else ""
    if named or first.strip().lower() == "sep=":  # a line that Excel reads, and may write
        separator, text, first_row = named or "\t", rest, 2
    else:
        separator, first_row = _separator(first), 1
    if separator != ",":
        remarks = (f"{SEPARATORS.get(separator, repr(separator))} between its cells", *remarks)
    return Cells(_read_csv(path, text, separator, names), first_row, remarks)


def _decoded(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    """Returns the text, and a remark if it is not UTF-8."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding), () if encoding.startswith("utf-8") else (encoding.upper(),)
    except UnicodeDecodeError as error:
        wrong = content[error.start]
    try:
        if encoding == "utf-8" and b"\0" not in content:
            return content.decode("cp1252"), ("Latin-1 text",)
    except UnicodeDecodeError:
        pass
    if kind := KINDS_OF_ENDINGS.get(path.suffix.lower()):
        raise InputError(
            f"{path} is no {kind} file and no text: it begins with {content[:4]!r}; save the table again as "
            f"{kind} or CSV"
        )
    raise InputError(f"{path} is not UTF-8 text (byte 0x{wrong:02x}): save it again as UTF-8")


def _separator(line: str) -> str:
    """Returns the separator of a line, which is most frequent outside of quotes; a comma where there is
    none."""
    outside = "".join(line.split('"')[::2])
    return max(SEPARATORS, key=outside.count)


def _read_csv(path: Path, text: str, separator: str, names: Sequence[str] | None) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
                index_col=False,  # else rows longer than `names` make the first column an index
                names=list(names) if names else None,
                header=None,  # else of two columns of one name the second is given another
            )
    except pd.errors.ParserWarning:
        raise InputError(f"{path} cannot be read as a table: its rows have more cells than columns") from None
    except (ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path} cannot be read as a table: {str(error).strip()}") from None


def _read_excel(path: Path, content: bytes) -> Cells:
    try:
        cells = pd.read_excel(io.BytesIO(content), dtype=str, header=None, keep_default_na=False)
    except ImportError as error:
        needed = "xlrd" if "xlrd" in str(error) else "openpyxl"
        raise InputError(
            f"{path} is an Excel file: save it as CSV, or pip install {needed} to read it as it is"
        ) from None
    except Exception as error:  # a zip file of another kind, of which each reader says something else
        raise InputError(f"{path} cannot be read as a table: {str(error).strip()}") from None
    return Cells(cells, 1, ("an Excel file, its first sheet",))


def _read_parquet(path: Path, content: bytes) -> Cells:
    try:
        table = pd.read_parquet(io.BytesIO(content))
    except ImportError:
        raise InputError(f"{path} is a Parquet file: save it as CSV, or pip install pyarrow") from None
    except Exception as error:
        raise InputError(f"{path} cannot be read as a table: {str(error).strip()}") from None
    named = [name for name in table.index.names if name is not None]  # a column that was made the index
    table = table.reset_index(level=named) if named else table
    rows = {column: table[column].map(_as_text).astype(object) for column in table}
    header = pd.DataFrame([[str(column) for column in table]])
    body = pd.DataFrame(rows, columns=table.columns).set_axis(header.columns, axis=1)
    return Cells(pd.concat([header, body], ignore_index=True), 0, ("a Parquet file",))


def _as_text(value: object) -> str:
    """Returns the text of a value: 7 for 7.0, which is what a whole number in a column with gaps becomes."""
    if value is None or value is pd.NA or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _tables_there(path: Path) -> str:
    """Returns the tables beside a missing one, for its message."""
    endings = (".csv", ".tsv", ".txt", ".gz", ".xlsx", ".xls", ".parquet")
    try:
        there = sorted(file.name for file in path.parent.iterdir() if file.suffix.lower() in endings)
    except OSError:
        return ""
    shown = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "")
    return f"; its folder has: {shown}" if there else ""
