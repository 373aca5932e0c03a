"""Labels are read in their usual spellings, and refused with their values where they cannot be known."""

from pathlib import Path

import pandas as pd
import pytest

from pneumo.data.labels import NEGATIVE, POSITIVE, label_problems, meaning, positive_name, read_labels
from pneumo.errors import InputError

PATH = Path("t.csv")


def read(*cells: str, positive: str | None = None) -> tuple[list[str], str]:
    labels, how = read_labels(pd.Series(cells), PATH, "label", positive)
    return labels.tolist(), how


@pytest.mark.parametrize(
    ("no", "yes"),
    [
        ("0", "1"),
        ("0.0", "1.0"),
        ("0,0", "1,0"),
        ("False", "TRUE"),
        ("no", "yes"),
        ("N", "Y"),
        ("neg", "pos"),
        ("Negative", "Positive"),
        ("No Finding", "Pneumothorax"),
        ("normal", "PTX"),
        ("no_pneumothorax", "pneumothorax"),
        ("nein", "ja"),
    ],
)
def test_usual_spellings_are_labels(no: str, yes: str) -> None:
    labels, how = read(yes, no, no)
    assert labels == ["1", "0", "0"]
    assert how == ("" if yes == "1" else f"{yes} is 1, {no} is 0")


@pytest.mark.parametrize("doubt", ["-1", "-1.0", "1?", "?", "no?", "~yes", "+1", "(1)", "!no", "1/0", "1-0"])
def test_what_doubts_or_denies_is_no_label(doubt: str) -> None:
    assert meaning(doubt) == ""


def test_no_spelling_is_positive_and_negative() -> None:
    assert not POSITIVE & NEGATIVE


def test_a_few_other_values_stay_to_be_refused_with_their_rows() -> None:
    assert read("yes", "no", "maybe", "")[0] == ["1", "0", "maybe", ""]


def test_a_label_that_is_no_label_says_what_labels_are() -> None:
    labels, read_as = read("1", "0", "maybe", "0")
    assert read_as == ""  # nothing was read otherwise than it is written
    assert label_problems(pd.Series(labels), "PTX").tolist() == [
        *("", ""),
        'PTX is "maybe", must be 0 or 1, yes or no, ..., or data.positive=VALUE names the positive one',
        "",
    ]


NUMBERS = tuple(str(number % 80) for number in range(160))  # of patients: a few are 0 and 1 by chance


@pytest.mark.parametrize("cells", [("a", "b", "b"), ("1", "2"), ("Pneumothorax", "Effusion"), NUMBERS])
def test_labels_that_cannot_be_known_are_refused_once_with_their_values(cells: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as error:
        read(*cells)
    said = str(error.value)
    assert said.startswith("t.csv: label is not a label that is known to be positive or negative: it has ")
    assert all(f'"{cell}" (' in said for cell in cells[:3])
    assert said.endswith("must be 0 or 1, yes or no, ..., or data.positive=VALUE names the positive one")
    assert "\n" not in said


def test_the_positive_value_can_be_named_and_all_others_are_negative() -> None:
    assert read("1", "2", "2", "", positive="2") == (["0", "1", "1", ""], "2 is positive, 1 negative")
    assert read("Effusion", "pneumothorax", positive="Pneumothorax")[0] == ["0", "1"]
    with pytest.raises(InputError, match=r'data.positive is "3"; t.csv has in label: "1" \(2\), "2" \(1\)'):
        read("1", "1", "2", positive="3")


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (["neg", "pos"], "pos"),
        (["0", "1"], "1"),
        (["normal", "pneumothorax"], "pneumothorax"),
        (["No Finding", "PTX"], "PTX"),
        (["0_normal", "1_pneumothorax"], "1_pneumothorax"),
    ],
)
def test_the_positive_folder_is_known_by_its_name(names: list[str], positive: str) -> None:
    assert positive_name(names, "root", None) == positive


@pytest.mark.parametrize(
    "names", [["a", "b"], ["pneumothorax", "effusion"], ["pos", "positive"], ["neg", "normal"]]
)
def test_a_positive_folder_that_cannot_be_known_is_to_be_named(names: list[str]) -> None:
    options = " or ".join(f"data.positive={name}" for name in names)
    with pytest.raises(InputError, match=f"is positive is not known; name it: {options}"):
        positive_name(names, "root", None)
    assert positive_name(names, "root", names[1].upper()) == names[1]
    with pytest.raises(InputError, match=r'data\.positive is "x"; root has: '):
        positive_name(names, "root", "x")
