"""Recognises labels in their usual spellings, and folders that are named by them."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pneumo.errors import InputError, hydra_word, one_line

POSITIVE = frozenset(
    (
        *("1", "1.0", "1,0", "true", "t", "yes", "y", "pos", "positive", "+", "present", "sick", "ja"),
        *(
            "wahr",
            "oui",
            "vrai",
            "si",
            "sí",
            "verdadero",
            "p",
            "pneumothorax",
            "ptx",
            "pneumo",
            "pneumothoraces",
        ),
        *(
            "haspneumothorax",
            "withpneumothorax",
            "pneumothoraxpresent",
            "pneumothoraxpositive",
            "ptxpositive",
        ),
        *("pneumothoraxyes", "1pneumothorax", "1positive", "1pos", "class1", "label1"),
    )
)
NEGATIVE = frozenset(
    (
        *("0", "0.0", "0,0", "false", "f", "no", "n", "neg", "negative", "-", "absent", "healthy"),
        *("normal", "nein", "falsch", "non", "faux", "nofinding", "nofindings", "nopneumothorax"),
        *("noptx", "nopneumo", "nonpneumothorax", "nonptx", "withoutpneumothorax", "pneumothoraxabsent"),
        *("pneumothoraxnegative", "ptxnegative", "pneumothoraxno", "0normal", "0negative", "0neg"),
        *("0nopneumothorax", "class0", "label0", "negativo", "control", "controls", "clear"),
    )
)
SEPARATORS = re.compile(r"[\s_.,()-]+")  # between words; what doubts or denies, such as ?, is none
VALUES_SHOWN = 5
ACCEPTED = "must be 0 or 1, yes or no, ..., or data.positive=VALUE names the positive one"


def meaning(text: str) -> str:
    """Returns "1" or "0" for a label in a usual spelling, else "", as for -1, which is uncertain to many."""
    word = text.strip().lower()
    for spelling in (word, SEPARATORS.sub("", word) if any(map(str.isalpha, word)) else word):
        if spelling in POSITIVE:
            return "1"
        if spelling in NEGATIVE:
            return "0"
    return ""


def read_labels(
    cells: pd.Series, path: Path, column: str, positive: str | int | None
) -> tuple[pd.Series, str]:
    """Returns labels as "1" and "0", and how they were read, "" if they are written as 0 and 1. A label in no
    usual spelling stays as it is, to be refused with its row, where most others are of both classes.

    `positive` is the value that is positive, where every other value is negative. InputError: no cell has
    that value, or the labels cannot be told apart; the message gives the values."""
    values = cells[cells != ""].value_counts()
    if positive is not None:
        positive = str(positive).strip()
        is_positive = cells.str.lower() == positive.lower()
        if not is_positive.any():
            raise InputError(f'data.positive is "{positive}"; {path} has in {column}: {_shown(values)}')
        others = [str(value) for value in values.index if str(value).lower() != positive.lower()]
        labels = is_positive.map({True: "1", False: "0"}).where(cells != "", "")
        return labels, f"{positive} is positive, {_names(others)} negative"
    meant = {str(value): meaning(str(value)) for value in values.index}
    unknown = [value for value, label in meant.items() if not label]
    n_unknown = int(cells.isin(unknown).sum())
    if unknown and (len({*meant.values()} - {""}) < 2 or 2 * n_unknown > int(values.sum())):
        raise InputError(
            f"{path}: {column} is not a label that is known to be positive or negative: it has "
            f"{_shown(values)}; {ACCEPTED}"
        )
    labels = cells.map(lambda cell: meant.get(cell) or cell)
    if all(value == label for value, label in meant.items() if label):
        return labels, ""
    words = {label: [value for value, its in meant.items() if its == label] for label in ("1", "0")}
    return labels, ", ".join(
        f"{_names(words[label])} {'is' if len(words[label]) == 1 else 'are'} {label}"
        for label in ("1", "0")
        if words[label]
    )


def label_problems(labels: pd.Series, column: str) -> pd.Series:
    """Returns what is wrong with labels of `read_labels` that stayed as they are, "" for others."""
    return (f'{column} is "' + labels + f'", {ACCEPTED}').where(~labels.isin(["0", "1", ""]), "")


def positive_name(names: Iterable[str], where: str, positive: str | int | None) -> str:
    """Returns the name of the positive class of the names of classes. InputError: there is none, or it cannot
    be known."""
    there = list(names)
    if positive is not None:
        if same := [name for name in there if name.lower() == str(positive).strip().lower()]:
            return same[0]
        raise InputError(f'data.positive is "{positive}"; {where} has: {_names(there)}')
    found = [name for name in there if meaning(name) == "1"]
    if len(found) == 1 and all(meaning(name) == "0" for name in there if name != found[0]):
        return found[0]
    options = " or ".join(hydra_word("data.positive", name) for name in there[:VALUES_SHOWN])
    raise InputError(f"{where}: which of {_names(there)} is positive is not known; name it: {options}")


def _names(values: list[str]) -> str:
    shown = [one_line(value) for value in values[:VALUES_SHOWN]]
    return ", ".join([*shown, *(["..."] if len(values) > VALUES_SHOWN else [])])


def _shown(values: pd.Series) -> str:
    counted = [f'"{one_line(str(value))}" ({count:,})' for value, count in values[:VALUES_SHOWN].items()]
    return ", ".join([*counted, *(["..."] if len(values) > VALUES_SHOWN else [])])
