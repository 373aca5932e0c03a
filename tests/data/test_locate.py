"""The files that cells name are found where names are written otherwise, and proposed where folders are."""

from pathlib import Path

import pandas as pd
import pytest

from pneumo.data.locate import Located, locate
from pneumo.errors import InputError


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, *cells: str, images: str = ".") -> list[str]:
    return located(root, *cells, images=images).paths.tolist()


def located(root: Path, *cells: str, images: str = ".") -> Located:
    return locate(root, images, pd.Series(cells), "image")


@pytest.mark.parametrize(
    ("file", "cell"),
    [
        ("a.png", "a.png"),
        ("a.PNG", "a.png"),
        ("A.png", "a.PNG"),
        ("a b.png", "a b.png"),
        ("a.png", "a"),
        ("1.2.840.7.dcm", "1.2.840.7"),
        ("ro\u0308.png", "r\u00f6.png"),  # as macOS and as others compose an umlaut
        ("sub/a.png", "sub\\a.png"),
    ],
)
def test_a_name_that_is_written_otherwise_is_found(tmp_path: Path, file: str, cell: str) -> None:
    files(tmp_path, file, "other.png")
    assert found(tmp_path, cell, "other.png") == [file, "other.png"]


def test_of_two_files_that_a_cell_may_mean_none_is_taken(tmp_path: Path) -> None:
    files(tmp_path, "a.PNG", "a.Png", "other.png")
    assert found(tmp_path, "a.png", "other.png") == ["a.png", "other.png"]  # which is not there


def test_missing_files_keep_the_path_that_was_expected(tmp_path: Path) -> None:
    files(tmp_path, "img/a.png")
    assert found(tmp_path, "a.png", "b.png", "", images="img") == ["img/a.png", "img/b.png", ""]


@pytest.mark.parametrize(
    ("before", "images", "left_out"),
    [
        ("img/", "img", "img"),
        ("mine/img/", ".", "mine"),
        ("/old/place/img/", ".", "/old/place"),
        ("C:\\data\\img\\", ".", "C:/data"),
    ],
)
def test_folders_that_all_cells_begin_with_are_left_out_where_no_file_is_found(
    tmp_path: Path, before: str, images: str, left_out: str
) -> None:
    files(tmp_path, "img/a.png", "img/b.png")
    taken = located(tmp_path, f"{before}a.png", f"{before}b.png", images=images)
    assert taken.paths.tolist() == ["img/a.png", "img/b.png"]
    assert taken.remark == f"paths without their {left_out}/"


def test_folders_that_tell_files_apart_are_never_left_out(tmp_path: Path) -> None:
    files(tmp_path, "1.png", "2.png")
    with pytest.raises(InputError, match="none of 2 images is below"):
        located(tmp_path, "train/1.png", "test/1.png")


def test_all_files_may_have_another_ending(tmp_path: Path) -> None:
    files(tmp_path, "a.jpg", "b.JPG")
    taken = located(tmp_path, "a.dcm", "b.dcm")
    assert taken.paths.tolist() == ["a.jpg", "b.JPG"]
    assert taken.remark == "files that end in .jpg, not in .dcm"


def test_where_all_files_are_elsewhere_their_folder_is_proposed_in_one_line(tmp_path: Path) -> None:
    files(tmp_path, *(f"img/{number}.png" for number in range(9)), "masks/0.png")
    with pytest.raises(InputError) as error:
        located(tmp_path, *(f"{number}.png" for number in range(9)))
    assert str(error.value) == (
        f"none of 9 images is below {tmp_path}, e.g. 0.png; 9 of their names are in img: data.images=img?"
    )
    files(tmp_path, *(f"many/{number}/x{number}.png" for number in range(9)))
    with pytest.raises(InputError, match=r"9 of their names are in 9 folders: 'data.images=many/\*\*'\?$"):
        located(tmp_path, *(f"x{number}.png" for number in range(9)))
    with pytest.raises(InputError, match=r"is data\.root the right folder"):
        located(tmp_path, "no.png", "none.png")


def test_a_pattern_of_folders_finds_each_file_in_one_of_them(tmp_path: Path) -> None:
    files(tmp_path, "img/1/a.png", "img/2/b.png", "img/2/deep/c.png")
    assert found(tmp_path, "a.png", "b.png", images="img/*") == ["img/1/a.png", "img/2/b.png"]
    assert found(tmp_path, "a.png", "c.png", images="img/**") == ["img/1/a.png", "img/2/deep/c.png"]
    files(tmp_path, "img/3/b.png")
    with pytest.raises(InputError, match=r"b.png is in 2 folders of the pattern, as img/2/b.png and img/3/b"):
        located(tmp_path, "a.png", "b.png", images="img/*")


def test_a_folder_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    files(tmp_path, "img/a.png")
    with pytest.raises(InputError, match=r'data\.images: no folder "imgs" in .*; it has: img'):
        located(tmp_path, "a.png", images="imgs")
    with pytest.raises(InputError, match=r'data\.images is "/imgs", must be relative to data.root'):
        located(tmp_path, "a.png", images="/imgs")
    assert found(tmp_path, "a.png", images=str(tmp_path / "img")) == ["img/a.png"]
