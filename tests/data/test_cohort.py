"""What is refused in a table, what is said of it, and what is left out under on_error=skip."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pneumo.data.cohort import Cohort
from pneumo.data.sources.table import Table
from pneumo.data.tables import read_table, sexes, unread_notes, views, years
from pneumo.data.validate import REMEDY
from pneumo.errors import InputError

COLUMNS = {"image": "image", "label": "label", "patient": "patient"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    for name in "abcd":
        Image.new("L", (8, 8)).save(folder / f"{name}.png")
    return folder


def cohort(root: Path, *rows: str, header: str = "image,label,patient", **fields: object) -> Cohort:
    (root / "t.csv").write_text("\n".join([header, *rows]))
    chosen = {"columns": COLUMNS, **fields}
    return Table(root=str(root), table="t.csv", image_side_px=8, **chosen)()


GOOD = ("a.png,0,p", "b.png,1,q")


def refused(root: Path, *rows: str, **fields: object) -> str:
    with pytest.raises(InputError) as error:
        cohort(root, *GOOD, *rows, **fields)
    return str(error.value)


def test_a_good_table_is_taken_whole(root: Path) -> None:
    taken = cohort(root, *GOOD, "c.png,1.0,")
    assert taken.table["image_id"].tolist() == ["a.png", "b.png", "c.png"]
    assert taken.table["label"].tolist() == [0, 1, 1]
    assert taken.table["where"].tolist() == ["t.csv row 2", "t.csv row 3", "t.csv row 4"]
    assert taken.table["patient_id"].isna().tolist() == [False, False, True]
    assert (taken.notes, taken.skipped) == ((), ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("c.png,2,p", 'row 4  label is "2", must be 0 or 1'),
        ("c.png,,p", "row 4  label is empty"),
        ("c.png,maybe,p", 'row 4  label is "maybe", must be 0 or 1'),
        ("none.png,0,p", "row 4  none.png is not there"),
        (",0,p", "row 4  the image id is empty"),
        ("a,1,p", '"a.png" and "a" are the same file, a.png'),
        ("../outside.png,0,p", "row 4  ../outside.png leads out of"),
        ("/etc/passwd,0,p", "row 4  /etc/passwd leads out of"),
        ("link.png,0,p", "row 4  link.png is a link that leads out of"),
        ("linked/outside.png,0,p", "row 4  linked/outside.png leads out of"),
        ("folder,0,p", "row 4  folder is not a file"),
        ("a.png,1,p", 'image "a.png" has label 0 in t.csv row 2 and 1 in t.csv row 4'),
        ("a.png,0,z", 'image "a.png" has patient p in t.csv row 2 and z in t.csv row 4'),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_row(root: Path, row: str, said: str) -> None:
    Image.new("L", (8, 8)).save(root.parent / "outside.png")
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "linked").symlink_to(root.parent)
    (root / "folder").mkdir()
    message = refused(root, row)
    assert said in message
    assert message.startswith(f"{root}/t.csv: ")
    assert "rows cannot be used:" in message
    assert message.splitlines()[-1] == REMEDY


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "link.png").symlink_to(root / "c.png")
    assert len(cohort(root, *GOOD, "link.png,0,p")) == 3


def test_all_wrong_rows_are_told_at_once_each_reason_in_file_order(root: Path) -> None:
    message = refused(root, *(f"x{number}.png,{number % 3},p" for number in range(15)))
    lines = message.splitlines()
    assert lines[0].endswith("15 of 17 rows cannot be used:")
    assert lines[1].startswith("  row 4  x0.png is not there (10 rows: x0.png, x1.png, ")
    assert lines[2].startswith('  row 6  label is "2", must be 0 or 1, yes or no, ..., or ')
    assert lines[2].endswith(" (5 rows)")


def test_skip_leaves_wrong_rows_out_with_a_line_each(root: Path) -> None:
    taken = cohort(root, *GOOD, "c.png,2,p", "none.png,1,p", "d.png,1,r", on_error="skip")
    assert taken.table["image_id"].tolist() == ["a.png", "b.png", "d.png"]
    assert taken.table.index.tolist() == [0, 1, 2]
    assert taken.skipped[0].startswith('t.csv row 4: label is "2", must be 0 or 1')
    assert taken.skipped[1:] == ("t.csv row 5: none.png is not there",)


def test_rows_left_out_are_in_the_order_of_their_files_and_rows() -> None:
    where = [f"t.csv row {row}" for row in ("900", "1,000", "1,100", "12")]
    columns = {"image_id": list("abcd"), "patient_id": list("abcd"), "label": [0, 1, 1, 1], "where": where}
    before = ("s.csv row 4: is not there", "t.csv row 950: is not there")
    made = Cohort("made", pd.DataFrame(columns), pixels=None, skipped=before)
    assert [line.partition(":")[0] for line in made.without({1: "broken", 3: "broken"}).skipped] == [
        *("s.csv row 4", "t.csv row 12", "t.csv row 950", "t.csv row 1,000")
    ]


def test_skip_trusts_neither_of_two_rows_that_disagree(root: Path) -> None:
    taken = cohort(root, *GOOD, "c.png,0,p", "c.png,1,p", on_error="skip")
    assert taken.table["image_id"].tolist() == ["a.png", "b.png"]
    assert len(taken.skipped) == 2


def test_skip_does_not_hide_that_nothing_is_usable(root: Path) -> None:
    with pytest.raises(InputError, match=r"2 of 2 rows cannot be used:\n  row 2  label is empty"):
        cohort(root, "a.png,,p", "b.png,,p", on_error="skip")


def test_the_same_row_twice_counts_once_with_a_note(root: Path) -> None:
    taken = cohort(root, *GOOD, "a.png,0,p")
    assert len(taken) == 2
    assert taken.notes == ("1 rows repeat an image and are ignored",)


def test_a_cohort_of_one_class_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="none of the 2 images is positive"):
        cohort(root, "a.png,0,p", "b.png,0,p")
    with pytest.raises(InputError, match="none of the 1 images is negative"):
        cohort(root, "a.png,1,p", "none.png,0,p", on_error="skip")


def test_a_missing_column_names_those_there(root: Path) -> None:
    with pytest.raises(InputError, match=r't.csv has no column "patient"; it has: image, label, pid'):
        cohort(root, "a.png,0,p", header="image,label,pid")


def test_header_spaces_byte_order_mark_and_gzip_do_no_harm(tmp_path: Path) -> None:
    text = "\ufeffimage, label \r\n a.png ,1\r\n\r\nb.png, 0\r\n"
    (tmp_path / "t.csv").write_text(text, newline="")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("t.csv", "t.csv.gz"):
        table = read_table(tmp_path / name)
        assert table.to_dict("list") == {"image": ["a.png", "b.png"], "label": ["1", "0"]}
        assert table.index.tolist() == [2, 4]  # as an editor numbers them


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a table"),
        (b"a,b\n", "has no rows"),
        (b"a,b\n1,2\n3,4,5,6\n", "cannot be read as a table"),
        (b"a,b\n1,2,3\n4,5,6\n", "Expected 2 fields in line 2, saw 3"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"\x81\x00", "is not UTF-8 text"),
        (b"a, a\n1,2\n", 'has the column "a" twice'),
        (b"a,a\n1,2\n", 'has the column "a" twice'),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_table(tmp_path / "t.csv")


def test_ages_are_years_and_nonsense_is_unknown() -> None:
    ages = years(pd.Series(["58", "058Y", "060M", "014D", "414", "", "old", "7.5"]))
    expected = [58, 58, 5, 14 / 365.25, np.nan, np.nan, np.nan, 7.5]
    np.testing.assert_allclose(ages.to_numpy(float), expected)


def test_the_only_label_column_taken_as_the_patient_is_said_to_have_two_roles(root: Path) -> None:
    with pytest.raises(InputError, match='"label" cannot be both the patient and the label; name another'):
        cohort(root, *GOOD, columns={"image": "auto", "label": "auto", "patient": "label"})


def test_views_are_read_in_small_letters_too() -> None:
    assert views(pd.Series(["ap", "PA", "lateral"])).tolist() == ["AP", "PA", "lateral"]


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("sex", ["AP", "PA", ""], 'none of 2 cells are F or M, e.g. "AP": is it the right column?'),
        ("age", ["old", "young"], 'none of 2 cells are ages such as 58, 058Y or 060M, e.g. "old"'),
        ("view", ["F", "M", "na"], 'none of 2 cells are AP or PA, e.g. "F"'),
        ("age", ["58", "3y2m", "4y"], ""),
        ("sex", ["F", "x", "x"], '1 of 3 cells are F or M, e.g. "x"'),
        ("sex", ["", ""], ""),
        ("patient_id", ["x", "y"], ""),
    ],
)
def test_a_column_that_is_not_what_it_is_read_as_is_said(column: str, cells: list[str], said: str) -> None:
    notes = unread_notes(pd.DataFrame({"c": cells}), **{column: "c"})
    assert len(notes) == bool(said)
    assert not said or f'the column "c" is read as the {column}, but {said}' in notes[0]


def test_sexes_are_f_m_or_unknown() -> None:
    read = sexes(pd.Series(["M", "female", "", "x", "Mujer", "hombre", "W"]))
    assert [one if isinstance(one, str) else None for one in read] == ["M", "F", None, None, "F", "M", "F"]


def test_groups_are_patients_and_the_unknown_are_alone(root: Path) -> None:
    taken = cohort(root, "a.png,0,p", "b.png,1,", "c.png,1,p", "d.png,0,")
    first, second, third, fourth = taken.groups()
    assert first == third
    assert len({first, second, fourth}) == 3


def test_patients_come_from_a_csv_of_their_own_and_the_absent_are_counted(root: Path) -> None:
    (root / "p.csv").write_text("ImageId,patient_id,view,age,sex\na.png,7,AP,058Y,F\nb.png,7,PA,200,M\n")
    taken = cohort(root, "a.png,0,p", "b.png,1,q", "c.png,1,r", patients_csv="p.csv")
    assert taken.table["patient_id"].tolist() == ["7", "7", "r"]
    assert taken.table["view"].tolist()[:2] == ["AP", "PA"]
    assert taken.table["age"].tolist()[0] == 58
    assert taken.notes == ("p.csv: 1 of 3 images are not in it",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,patient_id\na,b\n", "has no column image_id; it has: name, patient_id"),
        ("image_id,person\na,b\n", 'has no column "patient_id"'),
        ("image_id,patient_id\na,b\na,c\n", 'rows 2, 3: image "a" has 2 patients'),
    ],
)
def test_a_wrong_patients_csv_is_refused(root: Path, content: str, said: str) -> None:
    (root / "p.csv").write_text(content)
    assert said in refused(root, patients_csv="p.csv")
