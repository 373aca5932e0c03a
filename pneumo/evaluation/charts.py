"""Interactive charts of predictions for a page, with plotly, which is imported when a chart is drawn.

N images"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumo.display.charts import BLUE, GREEN, GREY, RED, Chart, plain, styled
from pneumo.display.format import counted, decimal, with_interval
from pneumo.evaluation.calibration import reliability_curve
from pneumo.evaluation.metrics import Array, Interval, log_odds
from pneumo.evaluation.operating_points import OperatingPoints
from pneumo.evaluation.subgroups import Subgroup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROC, PRECISION_RECALL, SCORES = "roc", "precision-recall", "scores"  # ids, by which the sliders move them
MARKED = {"size": 13, "color": RED, "line": {"width": 2, "color": "#fff"}}
REFERENCE = {"color": GREY, "width": 1.5, "dash": "dot"}
WIDE, NARROW = (
    (1e-5, 0.001, 0.05, 0.5, 0.95, 0.999, 0.99999),
    (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999),
)
BINS = 40
FURTHEST = 1e-6  # P of an image that is drawn at the edge
VERDICTS = {  # first word of a subgroup's verdict -> colour, symbol
    "lower": (RED, "triangle-down"),
    "higher": (GREEN, "triangle-up"),
    "like": (BLUE, "circle"),
}
UNDECIDED = (GREY, "circle-open")
SHADES = [[0, "rgba(0,114,178,.04)"], [1, "rgba(0,114,178,.6)"]]  # under light and under dark text


def roc(points: OperatingPoints, auroc: str) -> Chart:
    """The ROC curve with a dot at the model's threshold; `auroc` as the title says it."""
    at = points.confusion
    x, y = 1 - at.tn / points.negatives, at.tp / points.positives
    figure = _unit_square("1 - specificity", "sensitivity", f"ROC, AUROC {auroc}")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=REFERENCE, hoverinfo="skip")
    _add_curve(figure, points, x, y, {}, "1 - specificity %{x:.3f}, sensitivity %{y:.3f}")
    here = f"sensitivity {decimal(y[points.start])}, specificity {decimal(1 - x[points.start])}"
    return Chart(figure, f"ROC curve, AUROC {auroc}. At the model's threshold: {here}.", ROC)


def precision_recall(points: OperatingPoints, auprc: str) -> Chart:
    """The precision-recall curve with a dot at the model's threshold, and a line at the prevalence."""
    at = points.confusion
    called = at.tp + at.fp
    precision = np.divide(at.tp, called, out=np.full(len(called), np.nan), where=called > 0)
    figure = _unit_square("sensitivity (recall)", "PPV (precision)", f"PR, AUPRC {auprc}")
    share = points.prevalence
    figure.add_scatter(x=[0, 1], y=[share, share], mode="lines", line=REFERENCE, hoverinfo="skip")
    recall = at.tp / points.positives
    steps = {"shape": "vh"}  # the precision of a threshold holds for the recall gained there
    _add_curve(figure, points, recall, precision, steps, "sensitivity %{x:.3f}, PPV %{y:.3f}")
    here = f"precision {decimal(precision[points.start])}, recall {decimal(recall[points.start])}"
    what = f"Precision-recall curve, AUPRC {auprc}; the prevalence is {decimal(share)}."
    return Chart(figure, f"{what} At the model's threshold: {here}.", PRECISION_RECALL)


def _add_curve(
    figure: "Figure", points: OperatingPoints, x: Array, y: Array, steps: Mapping[str, str], values: str
) -> None:
    """A curve over all thresholds, and a dot at the model's."""
    hover = f"P at or above %{{text}}<br>{values}<extra></extra>"
    line = {"color": BLUE, "width": 2.5, **steps}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, text=points.shown, hovertemplate=hover)
    start = slice(points.start, points.start + 1)
    figure.add_scatter(x=x[start], y=y[start], mode="markers", marker=MARKED, hoverinfo="skip")


def reliability(labels: Array, scores: Mapping[str, Array]) -> Chart:
    """The share of positives against the mean score in ten bins of equal mass; a curve for each of `scores`,
    which are P(pneumothorax) (N,) by the curve's name."""
    figure = _unit_square("mean P of a tenth of the images", "share with pneumothorax", "Reliability")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=REFERENCE, hoverinfo="skip", showlegend=False)
    for (name, one), colour, symbol in zip(scores.items(), (BLUE, RED), ("circle", "diamond"), strict=False):
        predicted, observed = reliability_curve(labels, one)
        figure.add_scatter(
            x=predicted,
            y=observed,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 8, "symbol": symbol},
            name=plain(name),
            hovertemplate="P %{x:.3f}<br>share %{y:.3f}<extra>" + plain(name) + "</extra>",
        )
    figure.update_layout(
        showlegend=len(scores) > 1,
        legend={"x": 1, "xanchor": "right", "y": 0.02, "yanchor": "bottom", "orientation": "v"},
    )
    what = "Reliability: the share with pneumothorax against the mean predicted P, in tenths of the images"
    return Chart(figure, f"{what}; {' and '.join(scores)}.")


def score_distribution(labels: Array, p: Array, threshold: float) -> Chart:
    """Histograms of P(pneumothorax) of both classes on the axis of log odds, and a line at the threshold."""
    x = log_odds(p, FURTHEST)
    line = float(log_odds(threshold, FURTHEST))
    ends = (min(x.min(), line), max(x.max(), line))
    edges = np.linspace(*ends, BINS + 1) if ends[0] < ends[1] else np.array([line - 1, line + 1])
    figure = figure_titled("", 300)
    for label, name, colour in ((0, "no pneumothorax", BLUE), (1, "pneumothorax", RED)):
        of_class = x[labels == label]
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=np.histogram(of_class, edges)[0] / max(1, len(of_class)),
            width=np.diff(edges),
            marker={"color": colour, "opacity": 0.6, "line": {"width": 0}},
            name=f"{name} ({counted(len(of_class), 'image')})",
            hovertemplate="%{y:.1%} of these images<extra>" + name + "</extra>",
        )
    margin = 0.02 * (edges[-1] - edges[0])
    ticks = WIDE if ends[1] - ends[0] > 12 else NARROW
    figure.update_layout(barmode="overlay", bargap=0, margin={"t": 40})
    figure.add_vline(x=line, line={"color": GREY, "width": 3})
    figure.update_xaxes(
        title="P, on the scale of log odds",
        range=[edges[0] - margin, edges[-1] + margin],
        tickvals=log_odds(np.array(ticks)),
        ticktext=[f"{tick:.0e}" if tick < 0.001 else f"{tick:g}".lstrip("0") for tick in ticks],
        zeroline=False,
    )
    figure.update_yaxes(title="share of the class", tickformat=".0%")
    what = "Histograms of P(pneumothorax) of images with and without one, and a line at the threshold"
    return Chart(figure, f"{what}, at first {decimal(threshold)}.", SCORES)


def forest(rows: Sequence[Subgroup], whole: float, interval: Interval) -> Chart:
    """The AUROC of each subgroup with its interval, in the colour and shape of its verdict; a line and a band
    where that of all images lies."""
    figure = figure_titled("", 110 + 34 * len(rows))
    for verdict in dict.fromkeys(one.verdict.split(" ")[0] for one in rows):
        colour, symbol = VERDICTS.get(verdict, UNDECIDED)
        of = [(place, one) for place, one in enumerate(rows) if one.verdict.split(" ")[0] == verdict]
        add_intervals(
            figure,
            [place for place, _ in of],
            [one.metrics["auroc"] for _, one in of],
            [one.intervals["auroc"] for _, one in of],
            of[0][1].verdict if verdict in VERDICTS else "too few patients to say",
            {"color": colour, "symbol": symbol, "size": 11},
            [
                f"{counted(one.n_images, 'image')}, {one.n_positive:,} positive<br>{one.verdict}"
                for _, one in of
            ],
        )
    if np.isfinite(interval[0]):
        figure.add_vrect(*interval, fillcolor=GREY, opacity=0.15, line_width=0, layer="below")
    figure.add_vline(x=whole, line=REFERENCE)
    figure.update_xaxes(title="AUROC, 95% interval")
    name_rows(figure, [f"{one.kind}: {one.name}" for one in rows])
    values = "; ".join(
        f"{one.kind} {one.name} {with_interval(one.metrics['auroc'], one.intervals['auroc'])}, {one.verdict}"
        for one in rows
    )
    return Chart(figure, f"AUROC of subgroups, all images {decimal(whole)}: {values}.")


def add_intervals(
    figure: "Figure",
    places: Sequence[float],
    values: Sequence[float],
    intervals: Sequence[Interval],
    name: str,
    marker: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Dots at rows `places` with horizontal bars to the ends of their intervals, which may be NaN."""
    low, high = np.array(intervals, float).reshape(-1, 2).T
    x = np.array(values, float)
    known = np.nan_to_num([high - x, x - low])
    figure.add_scatter(
        x=x,
        y=list(places),
        mode="markers",
        marker=dict(marker),
        name=name,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": known[0],
            "arrayminus": known[1],
            "thickness": 2,
            "width": 0,
            "color": marker["color"],
        },
        customdata=[
            with_interval(value, ends) + (f"<br>{note}" if note else "")
            for value, ends, note in zip(values, intervals, notes or [""] * len(x), strict=True)
        ],
        hovertemplate="%{customdata}<extra>" + name + "</extra>",
    )


def name_rows(figure: "Figure", names: Sequence[str]) -> None:
    """Rows 0, 1, ... of a figure by their names, the first on top."""
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[plain(name, 28) for name in names],
        range=[len(names) - 0.4, -0.6],
        zeroline=False,
    )


def confusions(matrices: Mapping[str, Array], title: str, height: int = 260) -> Chart:
    """Confusion matrices side by side: counts (2, 2) by a heading, with a row each for images without and
    with a pneumothorax, and a column each for those called so; the shade is the share of the row."""
    from plotly.subplots import make_subplots

    headings = [plain(name, 16) for name in matrices]
    figure = styled(make_subplots(1, len(matrices), subplot_titles=headings, horizontal_spacing=0.06), height)
    said = []
    for column, (name, counts) in enumerate(matrices.items(), start=1):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        text = [
            [f"{n:,.0f}<br>{share:.0%}" for n, share in zip(*row, strict=True)]
            for row in zip(counts, shares, strict=True)
        ]
        figure.add_heatmap(
            z=shares,
            x=["none", "PTX"],
            y=["none", "PTX"],
            text=text,
            texttemplate="%{text}",
            colorscale=SHADES,
            zmin=0,
            zmax=1,
            showscale=False,
            hoverinfo="skip",
            xgap=2,
            ygap=2,
            row=1,
            col=column,
        )
        (tn, fp), (fn, tp) = counts
        positives = f"{tp:,.0f} true and {fp:,.0f} false positives"
        said.append(f"{name}: {positives}, {fn:,.0f} false and {tn:,.0f} true negatives")
        figure.update_yaxes(autorange="reversed", showticklabels=column == 1, row=1, col=column)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title="labelled", row=1, col=1)
    figure.update_xaxes(title="called")
    figure.update_layout(title=_title(title), margin={"t": 75})
    return Chart(figure, f"Confusion matrices, {title}. {'; '.join(said)}.")


def _unit_square(x: str, y: str, title: str) -> "Figure":
    figure = figure_titled(title, 380)
    ticks = {"range": [-0.02, 1.02], "dtick": 0.25, "zeroline": False}
    figure.update_xaxes(title=x, **ticks)
    figure.update_yaxes(title=y, **ticks)
    figure.update_layout(showlegend=False)
    return figure


def figure_titled(title: str, height: int) -> "Figure":
    """An empty figure in the style of the pages; `height` in pixels."""
    from plotly.graph_objects import Figure

    figure = styled(Figure(), height)
    if title:
        figure.update_layout(title=_title(title), margin={"t": 45})
    return figure


def _title(text: str) -> dict[str, Any]:
    return {
        "text": plain(text, 60),
        "font": {"size": 15},
        "x": 0,
        "xref": "paper",
        "y": 0.98,
        "yanchor": "top",
    }
