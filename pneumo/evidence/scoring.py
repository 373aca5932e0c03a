"""`pneumo score FILE.csv`: an evaluation of anybody's predictions."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from pneumo import pages
from pneumo.console import Terminal
from pneumo.data.cohort import LABELS, known, need_columns, read_table, sexes, years
from pneumo.errors import InputError, listed
from pneumo.evidence import evaluated
from pneumo.evidence.calibration import temperature
from pneumo.evidence.evaluation import Answers, Evaluation
from pneumo.evidence.subgroups import subgroups
from pneumo.metrics import Array, best_f1_threshold

EPS = 1e-12  # of a probability of 0 or 1
TRUE = ("1", "1.0", "true", "yes")


def score(path: Path, options: Mapping[str, str | None]) -> None:
    """Of all rows; of those whose column `split` says test, with threshold and temperature from those that
    say val, where there are both. InputError: a column is missing, a cell is not what it must be, or all
    labels are equal."""
    terminal = Terminal()
    answers, described, notes = read(path, options)
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(answers)
        groups = subgroups(answers, described)
    text = evaluated.sections(evaluation, groups, f"{path.name}, {options['score']}", notes)
    pages.say(text, terminal)
    figures = dict(evaluated.pictures(evaluation, groups, path.name))
    files = {
        "md": pages.markdown(text),
        "html": pages.page(text, figures),
        "json": json.dumps(evaluated.as_json(evaluation, groups), indent=1),
    }
    for suffix, content in files.items():
        whole = Path(f"{path.stem}.evaluation.{suffix}")
        beside = whole.with_name(f".{whole.name}")
        beside.write_text(content)
        beside.replace(whole)
    terminal.line(f"written   {path.stem}.evaluation.md, .html and .json")


def read(path: Path, options: Mapping[str, str | None]) -> tuple[Answers, pd.DataFrame, list[str]]:
    """The answers, what is known of their images, and what to say of them."""
    table = read_table(path)
    columns = {role: str(options[role]) for role in ("score", "label", "image", "patient")}
    need_columns(table, path, [columns["score"], columns["label"]])
    table = with_others(table, columns["image"], options["data.patients_csv"])
    scores = probabilities(table[columns["score"]], path)
    labels = table[columns["label"]].map(LABELS)
    refuse(labels.isna(), table[columns["label"]], path, columns["label"], "must be 0 or 1")
    log_odds, y = logit(np.clip(scores, EPS, 1 - EPS)), labels.to_numpy(int)
    notes = []
    if columns["patient"] in table:
        own = "row " + pd.Series(table.index.astype(str), index=table.index)
        patients = pd.factorize(known(table[columns["patient"]]).fillna(own))[0]
    else:
        patients = np.arange(len(table))
        notes.append(f"No column {columns['patient']}: images count as independent, intervals are too short.")
    part = table["split"].str.lower().to_numpy() if "split" in table else np.full(len(table), "")
    val, rows = part == "val", part == "test"
    if rows.any() and len(np.unique(y[val])) == 2:
        threshold, scale = best_f1_threshold(y[val], log_odds[val]), temperature(log_odds[val], y[val])
        notes.append(f"Threshold and temperature from the {val.sum():,} rows of val.")
    else:
        rows = np.ones(len(table), bool)
        threshold, scale = given_threshold(options["threshold"]), 1.0
        notes.append("No rows of val and test: the threshold is the one given, and nothing is scaled.")
    if len(np.unique(y[rows])) < 2:
        raise InputError(f"{path}: all {rows.sum():,} labels are {y[rows][0]}: there is nothing to rank")
    answers = Answers(y[rows], log_odds[rows], patients[rows], threshold, scale)
    return answers, described_by(table, str(options["hard_negatives"]))[rows].reset_index(drop=True), notes


def with_others(table: pd.DataFrame, image: str, patients_csv: str | None) -> pd.DataFrame:
    """The columns that the table of patients has and the predictions lack, by image id."""
    if patients_csv is None:
        return table
    path = Path(patients_csv).expanduser()
    others = read_table(path)
    need_columns(others, path, ["image_id"])
    need_columns(table, Path("the predictions"), [image])
    others = others.drop_duplicates("image_id").set_index("image_id")
    new = {str(name): table[image].map(others[name]).fillna("") for name in others if name not in table}
    return table.assign(**new)


def probabilities(cells: pd.Series, path: Path) -> Array:
    """(N,)"""
    values = pd.to_numeric(cells, errors="coerce")
    refuse(~values.between(0, 1), cells, path, str(cells.name), "must be a number from 0 to 1")
    return values.to_numpy(float)


def refuse(wrong: pd.Series, cells: pd.Series, path: Path, name: str, must: str) -> None:
    if wrong.any():
        lines = [f'row {row:,}  {name} is "{cells[row]}", {must}' for row in cells.index[wrong]]
        raise InputError(
            listed(f"{path}: {int(wrong.sum()):,} of {len(cells):,} rows cannot be used:", lines)
        )


def given_threshold(text: str | None) -> float:
    """In log odds."""
    try:
        value = float(str(text))
    except ValueError:
        value = np.nan
    if not 0 < value < 1:
        raise InputError(f"threshold must lie between 0 and 1, got {text}")
    return float(logit(value))


def described_by(table: pd.DataFrame, hard_negatives: str) -> pd.DataFrame:
    """What is known of the rows: lesion_share, view, sex, age, hard_negative."""
    readers: dict[str, Callable[[pd.Series], pd.Series]] = {
        "view": known,
        "sex": sexes,
        "age": years,
        "lesion_share": shares,
    }
    found = {name: read(table[name]) for name, read in readers.items() if name in table}
    if hard_negatives in table:
        found["hard_negative"] = table[hard_negatives].str.lower().isin(TRUE)
    return pd.DataFrame(found, index=table.index)


def shares(cells: pd.Series) -> pd.Series:
    return pd.Series(pd.to_numeric(cells, errors="coerce"), index=cells.index)
