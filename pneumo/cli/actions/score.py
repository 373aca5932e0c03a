"""`pneumo score FILE.csv`: an evaluation of the predictions of any model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pneumo.data.atomic import atomic_path
from pneumo.data.sources.base import COLUMN_VALUES
from pneumo.data.tables import flags, known, need_columns, of_images, read_table, sexes, views, years
from pneumo.data.validate import LABELS
from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.errors import InputError, listed
from pneumo.evaluation import metrics, page, report
from pneumo.evaluation.calibration import platt_scaling
from pneumo.evaluation.metrics import Array, best_f1_threshold
from pneumo.evaluation.platt import UNSCALED, PlattScaling
from pneumo.evaluation.results import Evaluation, LogOddsPredictions
from pneumo.evaluation.subgroups import subgroups

DEFAULTS = {  # the column of each role; all but score and label may be absent
    "score": "score",
    "label": "label",
    "image": "image_id",
    "patient": "patient_id",
    "hard_negatives": "hard_negative",
}


def score(
    path: Path,
    requested: Mapping[str, str | None],
    threshold: float | None = None,
    patients_csv: Path | None = None,
) -> dict[str, Any]:
    """Evaluates the rows of split test; where there are none, those of no split. Threshold and Platt scaling
    come from the rows of split val. `requested` maps roles of DEFAULTS to names of columns, None for the
    default name. Writes FILE.evaluation.md, .html and .json, and returns the metrics. InputError: a column is
    missing, a cell is invalid, an image is there twice, or all labels are equal."""
    terminal = Terminal()
    predictions, described, notes = read(path, requested, threshold, patients_csv)
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(predictions)
        groups = subgroups(predictions, described)
    text = report.sections(evaluation, groups, f"{path.name}, {requested['score'] or 'score'}", notes)
    pages.print_sections(text, terminal)
    content = report.as_json(evaluation, groups)
    html = pages.html(page.sections(text, evaluation, groups))
    files = {"md": pages.markdown(text), "html": html, "json": content}
    for suffix, written in files.items():
        with atomic_path(Path(f"{path.stem}.evaluation.{suffix}")) as beside:
            beside.write_text(written)
    terminal.say("written", f"{path.stem}.evaluation.md, .html and .json")
    return {"file": str(path), **json.loads(content)}


def read(
    path: Path, requested: Mapping[str, str | None], threshold: float | None, patients_csv: Path | None
) -> tuple[LogOddsPredictions, pd.DataFrame, list[str]]:
    """The predictions, what is known of their images, and notes for the reader."""
    table = read_table(path)
    given = {role: name for role, name in requested.items() if name}
    columns = DEFAULTS | given
    table, notes = with_patients(table, path, columns, patients_csv)
    need_columns(table, path, [columns["score"], columns["label"], *given.values()])
    scores = probabilities(table[columns["score"]], path)
    labels = table[columns["label"]].map(LABELS)
    refuse(labels.isna(), table[columns["label"]], path, columns["label"], "must be 0 or 1")
    if columns["image"] in table:
        ids = known(table[columns["image"]])
        refuse(ids.duplicated() & ids.notna(), ids, path, columns["image"], "which is there already")
    log_odds, y = metrics.log_odds(scores), labels.to_numpy(int)
    if certain := int(np.isin(scores, (0, 1)).sum()):
        notes.append(f"{certain:,} scores are exactly 0 or 1: they decide slope, intercept and scaling.")
    patients, unknown = patients_of(table, columns["patient"])
    if 0 < unknown < len(table):
        notes.append(f"{unknown:,} rows have no patient: each counts as its own.")
    val, rows, of_no_split = splits(table, path)
    if not rows.any():
        rows = of_no_split
        notes.append(
            f"No row has split test: {'all' if rows.all() else 'the'} rows of no split are evaluated."
        )
    if len(np.unique(y[rows])) < 2:
        raise InputError(f"{path}: all {rows.sum():,} labels are {y[rows][0]}: there is nothing to rank")
    log_odds_threshold, scaling, source = operating_point(y[val], log_odds[val], threshold)
    predictions = LogOddsPredictions(
        y[rows], log_odds[rows], patients[rows], log_odds_threshold, scaling, unknown < len(table)
    )
    described = described_by(table, path, columns["hard_negatives"])[rows].reset_index(drop=True)
    return predictions, described, [*notes, source]


def splits(table: pd.DataFrame, path: Path) -> tuple[Array, Array, Array]:
    """(N,) each, whether a row is of val, of test, and of no split. InputError: a word is none of
    COLUMN_VALUES, or all rows are of train or val."""
    if "split" not in table:
        nothing = np.zeros(len(table), bool)
        return nothing, nothing, ~nothing
    words = known(table["split"]).str.lower()
    number = words.map(COLUMN_VALUES)
    refuse(words.notna() & number.isna(), table["split"], path, "split", f"not {', '.join(COLUMN_VALUES)}")
    val, test, of_none = (np.asarray(rows) for rows in (number == 1, number == 2, words.isna()))
    if not (test | of_none).any():
        raise InputError(
            f"{path}: all {len(table):,} rows have split train or val: there are none to evaluate"
        )
    return val, test, of_none


def operating_point(
    labels: Array, log_odds: Array, threshold: float | None
) -> tuple[float, PlattScaling, str]:
    """Threshold in log odds, scaling, and a sentence on where they come from; arrays of the rows of val.
    InputError: the threshold does not lie between 0 and 1."""
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"--threshold must lie between 0 and 1, got {threshold:g}")
    given = None if threshold is None else float(metrics.log_odds(threshold))
    if len(np.unique(labels)) == 2:
        best = best_f1_threshold(labels, log_odds) if given is None else given
        what = "Threshold and Platt scaling" if given is None else "The Platt scaling is"
        return best, platt_scaling(log_odds, labels), f"{what} from the {len(labels):,} rows of val."
    source = ".5" if given is None else "the one given"
    lacking = "rows of val of both labels" if len(labels) else "rows of val"
    return given or 0.0, UNSCALED, f"No {lacking}: the threshold is {source}, and P is not scaled."


def patients_of(table: pd.DataFrame, column: str) -> tuple[Array, int]:
    """(N,) a number for each patient, where a row without one is a patient of its own; and how many such rows
    there are."""
    if column not in table:
        return np.arange(len(table)), len(table)
    row_names = "row " + pd.Series(table.index.astype(str), index=table.index)
    patients = "patient " + known(table[column])
    return pd.factorize(patients.fillna(row_names))[0], int(patients.isna().sum())


def with_patients(
    table: pd.DataFrame, path: Path, columns: dict[str, str], patients_csv: Path | None
) -> tuple[pd.DataFrame, list[str]]:
    """The predictions with their empty cells filled from the table of patients, and a note on images that are
    not in it."""
    if patients_csv is None:
        return table, []
    other = patients_csv.expanduser()
    others = of_images(other).rename(columns={"patient_id": columns["patient"]})
    need_columns(table, path, [columns["image"]])
    ids = table[columns["image"]]
    for name in others:
        filling = ids.map(others[name]).fillna("")
        table = table.assign(**{str(name): known(table[name]).fillna(filling) if name in table else filling})
    absent = int((~ids.isin(others.index)).sum())
    return table, [f"{other.name}: {absent:,} of {len(ids):,} images are not in it."] if absent else []


def probabilities(cells: pd.Series, path: Path) -> Array:
    """(N,) InputError: a cell is not a number from 0 to 1."""
    values = pd.to_numeric(cells, errors="coerce")
    refuse(~values.between(0, 1), cells, path, str(cells.name), "must be a number from 0 to 1")
    return values.to_numpy(float)


def refuse(wrong: pd.Series, cells: pd.Series, path: Path, name: str, must: str) -> None:
    """InputError: some rows are wrong; it names the first of them, and what their cell must be."""
    if wrong.any():
        lines = [f'row {row:,}  {name} is "{cells[row]}", {must}' for row in cells.index[wrong]]
        heading = f"{path}: {len(lines):,} of {len(cells):,} rows cannot be used:"
        raise InputError(listed(heading, lines))


def described_by(table: pd.DataFrame, path: Path, hard_negatives: str) -> pd.DataFrame:
    """The columns that subgroups are made of, as far as they are there: view, sex, age, lesion_share,
    hard_negative. InputError: a lesion's share does not lie between 0 and 1."""
    readers: dict[str, Callable[[pd.Series], pd.Series]] = {"view": views, "sex": sexes, "age": years}
    columns = {name: read(table[name]) for name, read in readers.items() if name in table}
    if "lesion_share" in table:
        shares = columns["lesion_share"] = pd.to_numeric(table["lesion_share"], errors="coerce")
        outside = shares.notna() & ~shares.between(0, 1)
        refuse(outside, table["lesion_share"], path, "lesion_share", "must be from 0 to 1")
    if hard_negatives in table:
        columns["hard_negative"] = flags(table[hard_negatives])
    return pd.DataFrame(columns, index=table.index)
