"""The report's figures 3 to 5, with the control beside each run."""

from collections.abc import Mapping

from pneumo.display.format import decimal
from pneumo.display.pages import Cell, Link, Section
from pneumo.evaluation import plots
from pneumo.report2024.collect import CONTROL, CollectedRuns, Pair
from pneumo.report2024.comparison import NOT_RUN
from pneumo.report2024.published import FIGURES
from pneumo.runs.query import RunRecord, metric_history

NAMES = ("as it is", f"augment={CONTROL}")
PANELS = ("loss", "accuracy", "auroc")
LEARNED = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/auroc")
TO = "\N{RIGHTWARDS ARROW}"


def section(gathered: CollectedRuns) -> Section:
    pairs = [pair for pair in gathered.pairs if pair.experiment in FIGURES]
    histories = {run.run_id: history(run) for pair in pairs for run in named(pair).values()}
    rows: list[list[Cell]] = []
    for pair in pairs:
        for name in NAMES:
            label = f"{FIGURES[pair.experiment]}: {pair.experiment}"
            run = named(pair).get(name)
            said = in_words(run, histories[run.run_id]) if run else [NOT_RUN, *[""] * 5]
            rows.append([label, name, *said])
    pictures = {
        f"Figure {FIGURES[pair.experiment]}, {pair.experiment}: {NAMES[0]} (red), {NAMES[1]} (blue)": [
            plots.curve({name: histories[run.run_id] for name, run in named(pair).items()}, panel)
            for panel in PANELS
        ]
        for pair in pairs
        if named(pair)
    }
    text = (
        "The report saw losses that vibrate and do not converge, and called it overfitting. A jump is the "
        "mean change of val loss from one epoch to the next. Training figures are of the augmented images."
    )
    columns = ["figure", "run as", "train loss", "val loss", "jump of val loss", "train accuracy, last"]
    columns += ["val AUROC, best", "run"]
    return Section("Curves, as its figures 3 to 5", [text], columns, rows, pictures)


def named(pair: Pair) -> dict[str, RunRecord]:
    """The runs that are there."""
    return {name: run for name, run in zip(NAMES, (pair.own, pair.control), strict=True) if run}


def history(run: RunRecord) -> dict[str, dict[int, float]]:
    """Metric -> epoch -> value."""
    return {name: dict(sorted(metric_history(run.run_id, name).items())) for name in LEARNED}


def in_words(run: RunRecord, history: Mapping[str, Mapping[int, float]]) -> list[Cell]:
    def ends(name: str) -> str:
        values = history[name]
        return f"{decimal(values[min(values)])} {TO} {decimal(values[max(values)])}" if values else "-"

    return [
        ends("train/loss"),
        ends("val/loss"),
        decimal(run.metrics["findings/val_loss_jump"]),
        decimal(run.metrics["last/train_accuracy"]),
        f"{decimal(run.metrics['best/val_auroc'])}, epoch {run.metrics['best/epoch']:.0f}",
        Link(run.name, run.address),
    ]
