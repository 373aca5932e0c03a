"""Columns are recognised by their usual names; what is ambiguous is refused, and patients are not missed."""

from pathlib import Path

import pandas as pd
import pytest

from pneumo.data.columns import AUTO, NAMES, named_columns, plain, unused_patients
from pneumo.errors import InputError

PATH = Path("t.csv")


def found(*columns: str, **chosen: str | None) -> dict[str, str]:
    table = pd.DataFrame(columns=list(columns), dtype=str)
    return named_columns(table, PATH, {**dict.fromkeys(NAMES, AUTO), **chosen})


@pytest.mark.parametrize(
    ("role", "columns"),
    [
        ("image", ["image", "Image Index", "file_name", "FilePath", "dicom", "path", "ImageId", "IMG"]),
        ("patient", ["patient", "Patient ID", "PatientID", "subject-id", "MRN", "case", "patient_id"]),
        ("label", ["label", "Target", "has_pneumo", "Pneumothorax", "class", "Finding Labels"]),
        ("mask", ["mask", "mask_path", "Segmentation"]),
        ("rle", ["rle", "EncodedPixels", "encoded_pixels"]),
        ("view", ["view", "View Position", "ViewPosition"]),
        ("age", ["age", "Patient Age"]),
        ("sex", ["sex", "Gender", "PatientSex"]),
    ],
)
def test_usual_names_are_recognised_whatever_their_case_and_separators(role: str, columns: list[str]) -> None:
    for column in columns:
        assert found("other", column) == {role: column}


def test_no_name_belongs_to_two_roles() -> None:
    names = [name for of_role in NAMES.values() for name in of_role]
    assert len(names) == len(set(names))
    assert [plain(name) for name in names] == names


def test_the_name_of_the_role_itself_is_preferred() -> None:
    assert found("file", "Image", "path", "target", "label") == {"image": "Image", "label": "label"}


def test_two_columns_of_one_role_are_refused_with_the_options() -> None:
    with pytest.raises(InputError) as error:
        found("image_id", "path", "label")
    assert str(error.value) == (
        't.csv: "image_id" and "path" may all hold the image; choose one: data.columns.image=image_id or '
        "data.columns.image=path"
    )
    with pytest.raises(InputError, match=r"=subject_id or data\.columns\.patient=none$"):
        found("image", "label", "case", "subject_id")


def test_a_column_that_is_named_for_two_roles_is_refused() -> None:
    with pytest.raises(InputError) as error:
        found("file", "ptx", "age", image="file", label="ptx", patient="PTX")
    assert str(error.value) == (
        't.csv: "ptx" cannot be both the patient and the label; name another column for one of them: '
        "data.columns.patient=COLUMN or data.columns.label=COLUMN"
    )


def test_a_column_that_is_named_wins_and_is_not_taken_again() -> None:
    assert found("file", "path", "label", image="path") == {"image": "path", "label": "label"}
    assert found("file", "case", "label", patient="file", image="case") == {
        "image": "case",
        "label": "label",
        "patient": "file",
    }
    assert found("Has Pneumo", "image", label="has_pneumo") == {"image": "image", "label": "Has Pneumo"}


@pytest.mark.parametrize("off", [None, "none"])
def test_a_column_can_be_turned_off(off: str | None) -> None:
    assert found("image", "label", "patient", patient=off) == {"image": "image", "label": "label"}


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r't\.csv has no column "sick"; it has: image, label'):
        found("image", "label", label="sick")


IMAGES = pd.Series([f"{number}.png" for number in range(40)])


@pytest.mark.parametrize(
    ("name", "cells", "looks"),
    [
        ("patient", [str(number) for number in range(40)], True),  # by its name alone
        ("who", [f"q{number // 3}" for number in range(40)], True),
        ("study_no", [f"{number // 3:03d}" for number in range(40)], True),
        ("height", [f"{number // 3 + 150}" for number in range(40)], False),  # numbers, no identifiers
        ("nr", [f"{number // 3},5" for number in range(40)], False),
        ("date_id", [f"2024-01-{number // 3 + 1:02d}" for number in range(40)], False),
        ("hospital", ["north", "south"] * 20, False),  # of too many images each
        ("uid", [f"u{number}" for number in range(40)], False),  # of one image each
        ("comment", [f"c{number // 2}" if number % 2 else "" for number in range(40)], False),
    ],
)
def test_an_unused_column_of_patients_is_found_by_name_or_content(
    name: str, cells: list[str], looks: bool
) -> None:
    table = pd.DataFrame({"image": IMAGES, name: cells})
    assert unused_patients(table, ["image"], IMAGES) == (name if looks else None)
