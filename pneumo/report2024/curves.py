"""The section on learning curves: figures 3 to 5 of the report, with the control beside each run."""

from collections.abc import Mapping

import numpy as np

from pneumo.display.charts import Chart
from pneumo.display.format import decimal
from pneumo.display.pages import Cell, Link, Section
from pneumo.evaluation.charts import figure_titled
from pneumo.evaluation.metric_names import title
from pneumo.evaluation.metrics import jumpiness
from pneumo.report2024.collect import CollectedRuns
from pneumo.report2024.comparison import NOT_TRAINED
from pneumo.report2024.comparison_charts import MARKERS, UNCHANGED, WHOLE
from pneumo.report2024.published import FIGURES
from pneumo.runs.query import RunRecord, metric_history

VARIANTS = (UNCHANGED, WHOLE)
PANELS = ("loss", "accuracy", "auroc")
METRICS = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/auroc")


def section(collected: CollectedRuns) -> Section:
    rows: list[list[Cell]] = []
    curves = {}
    for pair in collected.pairs:
        if pair.experiment not in FIGURES:
            continue
        figure, histories = FIGURES[pair.experiment], {}
        for variant, run in zip(VARIANTS, (pair.unchanged, pair.control), strict=True):
            cells: list[Cell] = [NOT_TRAINED, *[""] * 5]
            if run:
                history = {name: dict(sorted(metric_history(run.run_id, name).items())) for name in METRICS}
                histories[variant] = history
                cells = summary(run, history)
            rows.append([f"{figure}: {pair.experiment}", variant, *cells])
        if histories:
            names = (f"{symbol} {name}" for symbol, name in zip("●◆", VARIANTS, strict=True))
            caption = (
                f"Figure {figure}, {pair.experiment}: {', '.join(names)}; dotted: on the training images"
            )
            curves[caption] = [chart(histories, panel, pair.experiment) for panel in PANELS]
    text = (
        "The report describes losses that oscillate and do not converge, and attributes them to overfitting. "
        "The jump is the mean change of the validation loss from one epoch to the next. Training metrics are "
        "measured on the augmented images."
    )
    columns = ["figure", "run", "train loss, first and last", "val loss, first and last", "jump of val loss"]
    columns += ["train accuracy, last", "val AUROC, best", "link"]
    return Section("Learning curves of the report's figures 3 to 5", [text], columns, rows, curves)


def chart(histories: Mapping[str, Mapping[str, Mapping[int, float]]], panel: str, experiment: str) -> Chart:
    """One metric of a run and its control by epoch: run -> metric -> epoch -> value."""
    figure = figure_titled(title(panel), 300)
    said = []
    for run, history in histories.items():
        for split, line in (("train", "dot"), ("val", "solid")):
            if values := history.get(f"{split}/{panel}"):
                last = list(values.values())[-1]
                figure.add_scatter(
                    x=list(values),
                    y=list(values.values()),
                    mode="lines+markers" if split == "val" else "lines",
                    line={"color": MARKERS[run]["color"], "dash": line, "width": 2},
                    marker={**MARKERS[run], "size": 6},
                    hovertemplate=f"epoch %{{x}}: %{{y:.3f}}<extra>{run}, {split}</extra>",
                )
                said.append(f"{run}, {split}: at last {decimal(last)}")
    figure.update_xaxes(title="epoch", tickformat="d", zeroline=False)
    figure.update_layout(showlegend=False)
    return Chart(figure, f"{title(panel)} of {experiment} by epoch. {'; '.join(said)}.")


def summary(run: RunRecord, history: Mapping[str, Mapping[int, float]]) -> list[Cell]:
    """The cells of one run. `history` is metric -> epoch -> value."""
    abandoned = int(run.tags.get("rescued_at_epoch", 0))  # epochs of a first attempt
    losses_of_attempt = list(history["val/loss"].values())[abandoned:]
    accuracies = list(history["train/accuracy"].values())
    losses = [list(history[name].values()) for name in ("train/loss", "val/loss")]
    return [
        *(f"{decimal(loss[0])} \N{RIGHTWARDS ARROW} {decimal(loss[-1])}" if loss else "-" for loss in losses),
        decimal(jumpiness(np.array(losses_of_attempt))),
        decimal(accuracies[-1]),
        f"{decimal(run.metrics['best/val_auroc'])}, epoch {run.metrics['best/epoch']:.0f}",
        Link(run.name, run.address),
    ]
