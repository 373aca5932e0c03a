"""`pneumo runs`: the training runs in MLflow as a table in the terminal, as JSON or as CSV."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import nan
from typing import Literal

from pneumo.display.console import Terminal
from pneumo.display.format import decimal, when, with_interval
from pneumo.runs import tracking
from pneumo.runs.listing import COLUMNS, ListedRun, Listing, Sort, listing

SHOWN = 30  # runs, unless another limit is given
GAP = 2  # characters between two columns
WITH_INTERVAL, WITHOUT_INTERVAL = "test AUROC (95%)", "test"
SHORTEST_NAME = 12
SHOWN_DIGITS = 8  # of a run id


def list_runs(
    filters: Sequence[str], sort: Sort, trials: bool, limit: int | None, form: Literal["table", "json", "csv"]
) -> None:
    """Prints the runs; see `listing`. InputError: MLflow cannot be reached, or no run has a filter's key."""
    terminal = Terminal()
    with terminal.waiting("reading MLflow"):
        tracking.connect()
        found = listing(filters, sort, trials)
    if form == "table":
        print_table(found, limit or SHOWN, filters, terminal)
        return
    records = [{**asdict(row), "started": row.started.isoformat()} for row in found.rows[:limit]]
    if form == "json":
        print(json.dumps(records, indent=1))
    else:
        writer = csv.DictWriter(sys.stdout, COLUMNS)
        writer.writeheader()
        writer.writerows(records)


def print_table(found: Listing, limit: int, filters: Sequence[str], terminal: Terminal) -> None:
    """The table, and a line on what is not in it."""
    rows = found.rows[:limit]
    if rows:
        terminal.table(*fitted([cells(row) for row in rows], terminal.width), gap=GAP)
        terminal.line()
    notes = [f"{len(rows):,} of {len(found.rows):,} runs: --limit N shows more"] if found.rows[limit:] else []
    if not rows:
        what = f" with {' '.join(filters)}" if filters else ""
        notes = [f"There is no training run{what} in {tracking.store_name()}"]
    if found.trials_left_out:
        trials = f"{found.trials_left_out:,} trial{'' if found.trials_left_out == 1 else 's'}"
        notes.append(f"{trials} of studies left out: --trials, or study=NAME")
    if notes:
        terminal.line(" · ".join(notes))


def cells(row: ListedRun) -> dict[str, str]:
    """The cells of a run by the heading of their column."""
    ends = (row.test_auroc_low, row.test_auroc_high)
    low, high = (nan if end is None else end for end in ends)
    return {
        "name": row.name,
        "id": row.run_id[:SHOWN_DIGITS],
        "when": when(row.started),
        "data": row.data or "-",
        "model": row.model or "-",
        "loss": row.loss or "-",
        "val": "-" if row.val_auroc is None else decimal(row.val_auroc),
        WITHOUT_INTERVAL: "-" if row.test_auroc is None else decimal(row.test_auroc),
        WITH_INTERVAL: "-" if row.test_auroc is None else with_interval(row.test_auroc, (low, high)),
        "state": (row.marks if row.state == "finished" else "") or row.state,
    }


def fitted(rows: Sequence[dict[str, str]], width: int) -> tuple[list[str], list[list[str]]]:
    """Columns and rows that fit into `width` characters: first without the id, loss and model, then without
    the interval, then with shorter names."""
    columns = [name for name in rows[0] if name != WITHOUT_INTERVAL]

    def total() -> int:
        return sum(max(len(row[name]) for row in [*rows, {name: name}]) + GAP for name in columns) - GAP

    for name in ("id", "loss", "model"):
        if total() > width:
            columns.remove(name)
    if total() > width:
        columns[columns.index(WITH_INTERVAL)] = WITHOUT_INTERVAL
    longest = max(len(row["name"]) for row in rows)
    allowed = max(longest - max(total() - width, 0), SHORTEST_NAME)
    shown = [{**row, "name": shortened(row["name"], allowed)} for row in rows]
    return columns, [[row[name] for name in columns] for row in shown]


def shortened(name: str, length: int) -> str:
    """The name, its end replaced by … if it is longer."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
