"""`pneumo score FILE.csv`: an evaluation of anybody's predictions."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo.data.split import COLUMN_VALUES
from pneumo.data.tables import flags, known, need_columns, of_images, read_table, sexes, years
from pneumo.data.validate import LABELS
from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.errors import InputError, listed
from pneumo.evaluation import metrics, report
from pneumo.evaluation.calibration import temperature
from pneumo.evaluation.metrics import Array, best_f1_threshold
from pneumo.evaluation.results import Evaluation, LogOddsPredictions
from pneumo.evaluation.subgroups import subgroups

DEFAULTS = {  # the column of each role
    "score": "score",
    "label": "label",
    "image": "image_id",
    "patient": "patient_id",
    "hard_negatives": "hard_negative",
}


def score(path: Path, options: Mapping[str, str | None]) -> None:
    """Of the rows whose column `split` says test, or of all; threshold and temperature from those that
    say val. InputError: a column is missing, a cell is not what it must be, an image is there twice, or all
    labels are equal."""
    terminal = Terminal()
    predictions, described, notes = read(path, options)
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(predictions)
        groups = subgroups(predictions, described)
    text = report.sections(evaluation, groups, f"{path.name}, {options['score'] or 'score'}", notes)
    pages.print_sections(text, terminal)
    plots = dict(report.plots_of(evaluation, groups, path.name))
    files = {
        "md": pages.markdown(text),
        "html": pages.html(text, plots),
        "json": report.as_json(evaluation, groups),
    }
    for suffix, content in files.items():
        whole = Path(f"{path.stem}.evaluation.{suffix}")
        beside = whole.with_name(f".{whole.name}")
        beside.write_text(content)
        beside.replace(whole)
    terminal.line(f"written   {path.stem}.evaluation.md, .html and .json")


def read(path: Path, options: Mapping[str, str | None]) -> tuple[LogOddsPredictions, pd.DataFrame, list[str]]:
    """The answers, what is known of their images, and what to say of them."""
    table = read_table(path)
    columns = {role: options[role] or name for role, name in DEFAULTS.items()}
    table, notes = with_others(table, path, columns, options["data.patients_csv"])
    request = [columns[role] for role in columns if options[role]]  # by name: then it must be there
    need_columns(table, path, [columns["score"], columns["label"], *request])
    scores = probabilities(table[columns["score"]], path)
    labels = table[columns["label"]].map(LABELS)
    refuse(labels.isna(), table[columns["label"]], path, columns["label"], "must be 0 or 1")
    if columns["image"] in table:
        ids = known(table[columns["image"]])
        refuse(ids.duplicated() & ids.notna(), ids, path, columns["image"], "which is there already")
    log_odds, y = metrics.log_odds(scores), labels.to_numpy(int)
    if certain := int(np.isin(scores, (0, 1)).sum()):
        notes.append(f"{certain:,} scores are exactly 0 or 1: slope, intercept and temperature rest on them.")
    patients, unknown = patients_of(table, columns["patient"])
    if 0 < unknown < len(table):
        notes.append(f"{unknown:,} rows have no patient: each counts as its own.")
    part = table["split"].str.lower().map(COLUMN_VALUES) if "split" in table else np.full(len(table), np.nan)
    val, rows = np.asarray(part == 1), np.asarray(part == 2)
    if not rows.any():
        rows = np.ones(len(table), bool)
        notes.append("No row says split test: all of them are scored.")
    if len(np.unique(y[rows])) < 2:
        raise InputError(f"{path}: all {rows.sum():,} labels are {y[rows][0]}: there is nothing to rank")
    threshold, scale, chosen = operating_point(y[val], log_odds[val], options["threshold"])
    predictions = LogOddsPredictions(
        y[rows], log_odds[rows], patients[rows], threshold, scale, unknown < len(table)
    )
    described = described_by(table, columns["hard_negatives"])[rows].reset_index(drop=True)
    return predictions, described, [*notes, chosen]


def operating_point(labels: Array, log_odds: Array, threshold: str | None) -> tuple[float, float, str]:
    """Threshold in log odds, temperature, and where they are from; of the rows of val."""
    given = given_threshold(threshold) if threshold else None
    if len(np.unique(labels)) == 2:
        best = best_f1_threshold(labels, log_odds) if given is None else given
        what = "Threshold and temperature" if given is None else "The temperature is"
        return best, temperature(log_odds, labels), f"{what} from the {len(labels):,} rows of val."
    said = "the threshold is .5" if given is None else "the threshold is the one given"
    return given or 0.0, 1.0, f"No rows of val: {said}, and nothing is scaled."


def patients_of(table: pd.DataFrame, column: str) -> tuple[Array, int]:
    """(N,) a number for each patient, one of its own for a row without; and how many such rows there are."""
    if column not in table:
        return np.arange(len(table)), len(table)
    own = "row " + pd.Series(table.index.astype(str), index=table.index)
    named = "patient " + known(table[column])
    return pd.factorize(named.fillna(own))[0], int(named.isna().sum())


def with_others(
    table: pd.DataFrame, path: Path, columns: Mapping[str, str], patients_csv: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """What the table of patients knows of these images, where the predictions have nothing; and how many it
    does not know."""
    if patients_csv is None:
        return table, []
    other = Path(patients_csv).expanduser()
    others = of_images(other).rename(columns={"patient_id": columns["patient"]})
    need_columns(table, path, [columns["image"]])
    ids = table[columns["image"]]
    for name in others:
        found = ids.map(others[name]).fillna("")
        table = table.assign(**{str(name): known(table[name]).fillna(found) if name in table else found})
    absent = int((~ids.isin(others.index)).sum())
    return table, [f"{other.name}: {absent:,} of {len(ids):,} images are not in it."] if absent else []


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


def given_threshold(text: str) -> float:
    """In log odds."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < 1:
        raise InputError(f"threshold must lie between 0 and 1, got {text}")
    return float(metrics.log_odds(value))


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
        found["hard_negative"] = flags(table[hard_negatives])
    return pd.DataFrame(found, index=table.index)


def shares(cells: pd.Series) -> pd.Series:
    return pd.Series(pd.to_numeric(cells, errors="coerce"), index=cells.index)
