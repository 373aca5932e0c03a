"""Tables are read however their files are written, or refused in one line."""

import gzip
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pneumo.data.table_file import read_cells
from pneumo.data.tables import read_described, years
from pneumo.errors import InputError

ROWS = [["image", "label"], ["a b.png", "1"], ["ö,ä.png", "0"]]
TEXT = 'image{0}label\n"a b.png"{0}1\n"ö,ä.png"{0}0\n'


@pytest.mark.parametrize(
    ("separator", "remarks"),
    [
        (",", ()),
        (";", ("semicolons between its cells",)),
        ("\t", ("tabs between its cells",)),
        ("|", ("bars between its cells",)),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_usual_separators_and_line_ends_are_recognised(
    tmp_path: Path, separator: str, remarks: tuple[str, ...], line_end: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.format(separator).replace("\n", line_end).encode("utf-8-sig"))
    read = read_cells(path)
    assert read.cells.to_numpy().tolist() == ROWS
    assert read.remarks == remarks


def test_quoted_separators_in_the_header_and_decimal_commas_do_not_mislead(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"name; or, path, if any";age\na.png;58,5\n')
    table, _ = read_described(tmp_path / "t.csv")
    assert table.columns.tolist() == ["name; or, path, if any", "age"]
    assert years(table["age"]).tolist() == [58.5]


def test_a_line_that_tells_excel_the_separator_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\nimage;label\na.png;1\n")
    table, _ = read_described(tmp_path / "t.csv")
    assert table.to_dict("list") == {"image": ["a.png"], "label": ["1"]}
    assert table.index.tolist() == [3]  # as an editor numbers them


@pytest.mark.parametrize(
    ("encoding", "remark"),
    [("utf-8", None), ("latin-1", "Latin-1 text"), ("cp1252", "Latin-1 text"), ("utf-16", "UTF-16")],
)
def test_encodings_are_recognised_also_in_gzip(tmp_path: Path, encoding: str, remark: str | None) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(TEXT.format(",").encode(encoding)))
    read = read_cells(tmp_path / "t.csv.gz")
    assert read.cells.to_numpy().tolist() == ROWS
    assert read.remarks == ((remark,) if remark else ())


def test_parquet_is_read_with_whole_numbers_as_they_were_and_gaps_empty(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"image": ["a", "b"], "patient": ["007", None], "label": [True, False], "age": [58.0, None]}
    )
    table.to_parquet(tmp_path / "t.parquet")
    read, remarks = read_described(tmp_path / "t.parquet")
    assert read.to_dict("list") == {
        "image": ["a", "b"],
        "patient": ["007", ""],
        "label": ["True", "False"],
        "age": ["58", ""],
    }
    assert remarks == ("a Parquet file",)


def test_an_excel_file_is_named_as_such_where_nothing_can_read_it(tmp_path: Path) -> None:
    for name in ("t.xlsx", "t.csv"):  # its content tells, not its name
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("xl/workbook.xml", "<workbook/>")
        with pytest.raises(InputError, match=rf"{name} (is an Excel file: save it as CSV|cannot be read)"):
            read_cells(tmp_path / name)


@pytest.mark.parametrize(("name", "kind"), [("list.xlsx", "Excel"), ("list.parquet", "Parquet")])
def test_what_is_neither_text_nor_of_its_ending_s_kind_is_said_not_to_be(
    tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(InputError, match=rf"{name} is no {kind} file and no text: it begins with b'.x89PNG'"):
        read_cells(tmp_path / name)


def test_rows_of_parquet_count_from_one_since_it_has_no_header(tmp_path: Path) -> None:
    pd.DataFrame({"image": ["a", "b"], "label": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    assert read_described(tmp_path / "t.parquet")[0].index.tolist() == [1, 2]


def test_a_missing_table_names_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    with pytest.raises(InputError, match=r"images.csv is not there; its folder has: labels.csv$"):
        read_cells(tmp_path / "images.csv")
