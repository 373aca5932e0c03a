"""Plots of predictions and training curves as matplotlib figures; none is shown or saved here."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumo.errors import one_line
from pneumo.evaluation import metric_names, metrics
from pneumo.evaluation.calibration import reliability_curve
from pneumo.evaluation.metrics import Array, Confusion, Interval, Ranking

POSITIVE, NEGATIVE, GREY = "#c0392b", "#2c6fbb", "#888888"


def curves(history: Sequence[dict[str, float]], best_epoch: int) -> Figure:
    """Loss, accuracy and AUROC by epoch."""
    epochs = np.arange(1, len(history) + 1)
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axis, name in zip(figure.subplots(1, 3), ("loss", "accuracy", "auroc"), strict=True):
        title = metric_names.title(name)
        for split, colour in (("train", GREY), ("val", NEGATIVE)):
            if f"{split}/{name}" in history[0]:
                values = [epoch[f"{split}/{name}"] for epoch in history]
                axis.plot(epochs, values, color=colour, marker="o", markersize=3, label=split)
        axis.axvline(best_epoch, color=POSITIVE, linewidth=0.8, linestyle=":", label="best epoch")
        axis.set(xlabel="epoch", title=f"val {title}" if name == "auroc" else title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        tidy(axis)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def ranking(labels: Array, scores: Array, threshold: float, title: str) -> Figure:
    """ROC and precision-recall, with the operating point."""
    table = Ranking.of(labels, scores)
    chosen = Confusion.at(table, threshold)
    at = {name: float(value[0]) for name, value in chosen.metrics().items()}
    recall = np.r_[0, table.tp[0] / table.positives[0]]
    false_alarms = np.r_[0, table.fp[0] / table.negatives[0]]
    precision = table.tp[0] / (table.tp[0] + table.fp[0])
    figure = Figure(figsize=(8.4, 4), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    roc.plot(false_alarms, recall, color=NEGATIVE)
    roc.plot(1 - at["specificity"], at["recall"], "o", color=POSITIVE, label=f"threshold {threshold:.2f}")
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC, AUROC {metrics.auroc(table)[0]:.3f}")
    prevalence = float(np.mean(labels))
    pr.axhline(prevalence, color=GREY, linewidth=0.8, linestyle=":", label=f"prevalence {prevalence:.2f}")
    pr.step(np.r_[0, recall[1:]], np.r_[precision[:1], precision], where="pre", color=NEGATIVE)
    pr.plot(at["recall"], at["precision"], "o", color=POSITIVE)
    pr.set(xlabel="recall", ylabel="precision", title=f"PR, AUPRC {metrics.auprc(table)[0]:.3f}")
    for axis in (roc, pr):
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        tidy(axis)
        axis.legend(frameon=False, fontsize=8, loc="lower right" if axis is roc else "lower left")
    figure.suptitle(plain(title))
    return figure


def confusion(labels: Array, scores: Array, threshold: float, title: str) -> Figure:
    chosen = Confusion.at(Ranking.of(labels, scores), threshold)
    counts = np.array([[chosen.tn[0], chosen.fp[0]], [chosen.fn[0], chosen.tp[0]]])
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.3)
    for row in range(2):
        for column in range(2):
            text = f"{counts[row, column]:,.0f}\n{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", fontsize=12)
    predictions = ["none", "pneumothorax"]
    axis.set_xticks([0, 1], predictions)
    axis.set_yticks([0, 1], predictions, rotation=90, va="center")
    axis.set(xlabel=f"called, at threshold {threshold:.2f}", ylabel="labelled", title=plain(title))
    return figure


def reliability(labels: Array, scores: Mapping[str, Array], title: str) -> Figure:
    """The share of positives against the mean score, in ten bins of equal mass; a curve for each of `scores`,
    which are P(pneumothorax) by the curve's name."""
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for colour, (name, one) in zip((NEGATIVE, POSITIVE), scores.items(), strict=False):
        predicted, observed = reliability_curve(labels, one)
        axis.plot(predicted, observed, "o-", color=colour, markersize=4, label=plain(name))
    if len(scores) > 1:
        axis.legend(frameon=False, fontsize=8)
    axis.set(xlabel="P(pneumothorax), mean of a tenth of the images", ylabel="share with pneumothorax")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=plain(title))
    tidy(axis)
    return figure


def forest(
    rows: Sequence[tuple[str, float, Interval]], reference: float, title: str, axis_title: str
) -> Figure:
    """A value with its interval a row, and a dotted line at the reference."""
    figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, (_, value, (low, high)) in enumerate(rows):
        axis.plot([low, high], [place, place], color=NEGATIVE, linewidth=1.2)
        axis.plot(value, place, "o", color=NEGATIVE, markersize=5)
    axis.axvline(reference, color=POSITIVE, linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(rows)), [plain(name) for name, *_ in rows])
    axis.invert_yaxis()
    axis.set(xlabel=axis_title, title=plain(title))
    tidy(axis)
    return figure


def plain(text: str) -> str:
    """Text made of data, drawn as it stands: dollar signs begin no mathematics, line breaks no line."""
    return one_line(text).replace("$", "\\$")


def tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
