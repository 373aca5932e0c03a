"""The report's figures 3 to 5, with the control beside each run."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from pneumo import figures
from pneumo.archive import Logged, epochs_of
from pneumo.describe import short
from pneumo.pages import Cell, Link, Section
from pneumo.report.gathered import CONTROL, Gathered
from pneumo.report.ours import NOT_RUN
from pneumo.report.printed import FIGURES

PANELS = ("loss", "accuracy", "auroc")
LEARNED = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/auroc")
FOUND = "\N{RIGHTWARDS ARROW}"


def section(gathered: Gathered) -> Section:
    rows: list[list[Cell]] = []
    pictures: dict[str, list[Figure]] = {}
    for pair in gathered.pairs:
        if pair.experiment not in FIGURES:
            continue
        number = FIGURES[pair.experiment]
        named = {"as it is": pair.own, f"augment={CONTROL}": pair.control}
        histories = {name: history(run) for name, run in named.items() if run}
        for name, run in named.items():
            label = f"{number}: {pair.experiment}"
            rows.append(
                [label, name, *in_words(run, histories[name])] if run else [label, name, NOT_RUN, *[""] * 5]
            )
        if histories:
            caption = f"Figure {number}, {pair.experiment}: as it is (red), augment={CONTROL} (blue)"
            pictures[caption] = [figures.curve(histories, panel) for panel in PANELS]
    text = (
        "The report saw losses that vibrate and do not converge, and called it overfitting. A jump is the "
        "mean change of val loss from one epoch to the next. Training figures are of the augmented images."
    )
    columns = ["figure", "run as", "train loss", "val loss", "jump of val loss", "train accuracy, last"]
    columns += ["val AUROC, best", "run"]
    return Section("Curves, as its figures 3 to 5", [text], columns, rows, pictures)


def history(run: Logged) -> dict[str, dict[int, float]]:
    """Metric -> epoch -> value."""
    return {name: dict(sorted(epochs_of(run.run_id, name).items())) for name in LEARNED}


def in_words(run: Logged, history: Mapping[str, Mapping[int, float]]) -> list[Cell]:
    def ends(name: str) -> str:
        values = history[name]
        return f"{short(values[min(values)])} {FOUND} {short(values[max(values)])}" if values else "-"

    return [
        ends("train/loss"),
        ends("val/loss"),
        short(run.figures["findings/val_loss_jump"]),
        short(run.figures["last/train_accuracy"]),
        f"{short(run.figures['best/val_auroc'])}, epoch {run.figures['best/epoch']:.0f}",
        Link(run.name, run.address),
    ]
