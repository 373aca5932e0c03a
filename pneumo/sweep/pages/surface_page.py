"""The response surface of a study on its page: charts, a sentence on what is not known, and the numbers."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import optuna

from pneumo.display.charts import BLUE, ORANGE, PALETTE, RED, Chart, styled
from pneumo.display.format import decimal, scientific
from pneumo.display.pages import Section
from pneumo.sweep.attributes import OBJECTIVE
from pneumo.sweep.pages import surrogate
from pneumo.sweep.pages.charts import described
from pneumo.sweep.pages.scales import decades
from pneumo.sweep.pages.surrogate import MIN_TRIALS, UNKNOWN_SD, Surface

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

REPORT_RATE, REPORT_BATCH, REPORT_LOSS = 1e-3, 6, "ce"  # of the report of 2024, without accumulation
REPORT_NAME = "the 2024 report"
WORSE_TO_BETTER = [[0.0, "#d6e8f5"], [0.6, BLUE], [1.0, ORANGE]]  # no grey, which means unknown
UNKNOWN_FILL = "rgba(138,143,152,.35)"
N_COLUMNS = 4  # effective batches in the table
TITLE = "Response surface"


def sections(study: optuna.Study) -> Iterator[Section]:
    """Best rate by effective batch, the surface of each loss, and folded the numbers; nothing for a study
    that does not search both."""
    if not surrogate.is_searched(study):
        return
    surface = surrogate.fitted(study)
    if surface is None:
        n = len(surrogate.observations(study))
        yield Section(
            TITLE, [f"Not known before {MIN_TRIALS} trials that differ in rate and batch; {n} so far."]
        )
        return
    objective = study.user_attrs.get(OBJECTIVE, ["objective"])[0]
    maps = [surface_of(surface, number, objective) for number in range(len(surface.losses))]
    worst, best = ends(surface)
    caption = (
        f"{objective} as predicted, from {decimal(worst)} (pale) to {decimal(best)} (orange), grey where it "
        "is not known; dots are trials, the line is the best rate"
    )
    text = [about(surface), *unknown(surface), *against_report(surface)]
    yield Section(TITLE, text, plots={"": [best_rates(surface)], caption: maps})
    yield numbers(surface)


def about(surface: Surface) -> str:
    return (
        f"A Gaussian process over learning rate, effective batch and loss, fitted to {len(surface.points)} "
        f"trials; a single trial scatters around it by {decimal(surface.noise_sd)} (sd). A pruned trial "
        "counts with its last value and the median rise of complete trials after that epoch. Intervals hold "
        "80% of what is possible if its fitted smoothness is right."
    )


def unknown(surface: Surface) -> list[str]:
    """Where it does not know, in a sentence; empty where it knows everything."""
    texts = []
    if (share := 1 - surface.is_known.mean()) > 0.005:
        texts.append(
            f"{share:.0%} of the surface is not known: there, more than {UNKNOWN_SD:.0%} of the sd assumed "
            "before any trial is left."
        )
    known = surface.is_best_known
    nowhere = [name(loss) for loss, row in zip(surface.losses, known, strict=True) if not row.any()]
    if len(nowhere) == len(surface.losses):
        texts.append("The best rate is not known for any effective batch: more trials are needed.")
    elif nowhere:
        texts.append(f"The best rate is not known with {', '.join(nowhere)}.")
    return texts


def against_report(surface: Surface) -> list[str]:
    """What is predicted at the report's own setting, if that lies on the surface."""
    rates, batches = surface.rates, surface.batches
    inside = rates[0] <= REPORT_RATE <= rates[-1] and batches[0] <= REPORT_BATCH <= batches[-1]
    if REPORT_LOSS not in surface.losses or not inside:
        return []
    code = surface.losses.index(REPORT_LOSS)
    batch = np.abs(np.log(batches / REPORT_BATCH)).argmin()
    rate = np.abs(np.log(rates / REPORT_RATE)).argmin()
    mean, sd = surface.mean[code, batch, rate], surface.sd[code, batch, rate]
    low, best, high = map(scientific, surface.best_rates[code, batch])
    known = f"{best} ({low} to {high})" if surface.is_best_known[code, batch] else "not known"
    return [
        f"At {REPORT_NAME}'s own setting (lr 1e-3, batch 6 x 1, ce) it predicts {decimal(mean)} ± "
        f"{decimal(sd)}; the best rate for that batch and loss is {known}."
    ]


def name(loss: str) -> str:
    return loss or "any loss"


def best_rates(surface: Surface) -> Chart:
    """The best rate by effective batch, a line and its 80% band for each loss, where it is known."""
    from plotly.graph_objects import Figure

    figure = Figure()
    for number, loss in enumerate(surface.losses):
        color = PALETTE[number % len(PALETTE)]
        known = surface.is_best_known[number]
        low, best, high = (np.where(known, each, np.nan) for each in surface.best_rates[number].T)
        band = {
            "x": surface.batches,
            "mode": "lines",
            "line_width": 0,
            "hoverinfo": "skip",
            "showlegend": False,
        }
        shown = name(loss)
        figure.add_scatter(y=low, legendgroup=shown, **band)
        fill = f"rgba({','.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))},.12)"
        figure.add_scatter(y=high, fill="tonexty", fillcolor=fill, **band)
        texts = [
            f"{html.escape(shown)}, effective batch {batch:.0f}<br>best lr {scientific(b)} "
            f"({scientific(lo)} to {scientific(hi)})"
            for batch, (lo, b, hi) in zip(surface.batches, surface.best_rates[number], strict=True)
        ]
        figure.add_scatter(
            x=surface.batches,
            y=best,
            mode="lines",
            line={"color": color, "width": 2},
            name=html.escape(shown),
            legendgroup=shown,
            text=texts,
            hovertemplate="%{text}<extra></extra>",
        )
    add_report(figure)
    scaled(figure, surface, 420)
    return Chart(figure, "The best learning rate by effective batch, for each loss")


def ends(surface: Surface) -> tuple[float, float]:
    """The worst and the best value that is predicted where it is known."""
    shown = surface.mean[surface.is_known] if surface.is_known.any() else surface.mean
    low, high = float(shown.min()), float(shown.max())
    return (high, low) if surface.is_minimised else (low, high)


def surface_of(surface: Surface, number: int, objective: str) -> Chart:
    """The objective predicted for one loss over effective batch and learning rate, with its trials."""
    from plotly.graph_objects import Figure

    loss = surface.losses[number]
    figure = Figure()
    mean, sd, known = surface.mean[number].T, surface.sd[number].T, surface.is_known[number].T
    texts = [
        [
            f"effective batch {batch:.0f}, lr {scientific(rate)}<br>"
            + (f"{decimal(mean[i, j])} ± {decimal(sd[i, j])}" if known[i, j] else "not known")
            for j, batch in enumerate(surface.batches)
        ]
        for i, rate in enumerate(surface.rates)
    ]
    figure.add_heatmap(
        x=surface.batches,
        y=surface.rates,
        z=np.where(known, mean, np.nan),
        zmin=min(ends(surface)),
        zmax=max(ends(surface)),
        colorscale=WORSE_TO_BETTER,
        reversescale=surface.is_minimised,
        showscale=False,
        hoverongaps=True,
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
    best = np.where(surface.is_best_known[number], surface.best_rates[number, :, 1], np.nan)
    figure.add_scatter(
        x=surface.batches, y=best, mode="lines", line={"color": "white", "width": 3}, hoverinfo="skip"
    )
    dots = [point for point in surface.points if point.loss == loss]
    figure.add_scatter(
        x=[point.batch for point in dots],
        y=[point.rate for point in dots],
        mode="markers",
        marker={"color": "white", "size": 8, "line": {"color": "#1c2430", "width": 1}},
        text=[described(point.trial) for point in dots],
        hovertemplate="%{text}<extra></extra>",
    )
    if loss in (REPORT_LOSS, ""):
        add_report(figure)
    scaled(figure, surface, 300).update_layout(showlegend=False, plot_bgcolor=UNKNOWN_FILL)
    figure.update_xaxes(title=f"effective batch, {html.escape(name(loss))}")
    return Chart(figure, f"{objective} by learning rate and effective batch with {name(loss)}")


def add_report(figure: "Figure") -> None:
    """A star at the report's own setting."""
    figure.add_scatter(
        x=[REPORT_BATCH],
        y=[REPORT_RATE],
        mode="markers",
        marker={"symbol": "star", "size": 15, "color": RED, "line": {"color": "white", "width": 1}},
        name=REPORT_NAME,
        hovertemplate=f"{REPORT_NAME}: lr 1e-3, batch 6 x 1, ce<extra></extra>",
    )


def scaled(figure: "Figure", surface: Surface, height: int) -> "Figure":
    """The figure in the style of the pages, over logarithms of effective batch and rate."""
    styled(figure, height).update_layout(hovermode="closest")
    batches = [*map(round, np.geomspace(surface.batches[0], surface.batches[-1], N_COLUMNS))]
    rates = decades(surface.rates[0], surface.rates[-1])
    log_axis = {"type": "log", "zeroline": False}
    figure.update_xaxes(
        title="effective batch", tickvals=batches, ticktext=[str(batch) for batch in batches], **log_axis
    )
    figure.update_yaxes(title="lr", tickvals=rates, ticktext=[scientific(rate) for rate in rates], **log_axis)
    ends = ((REPORT_BATCH, *surface.batches), (REPORT_RATE, *surface.rates))
    (left, right), (low, high) = (np.log10([min(each) / 1.15, max(each) * 1.15]).tolist() for each in ends)
    figure.update_xaxes(range=[left, right])
    figure.update_yaxes(range=[low, high])
    return figure


def numbers(surface: Surface) -> Section:
    """The best rate at some effective batches for each loss, and how it grows with the effective batch."""
    columns = [round(each) for each in np.linspace(0, len(surface.batches) - 1, N_COLUMNS)]
    rows = []
    for loss, best, exponent, known in zip(
        surface.losses, surface.best_rates, surface.exponents, surface.is_best_known, strict=True
    ):
        cells = [
            f"{scientific(best[at, 1])} ({scientific(best[at, 0])} to {scientific(best[at, 2])})"
            if known[at]
            else "not known"
            for at in columns
        ]
        low, middle, high = map(decimal, exponent)
        grows = f"{middle} ({low} to {high})" if known.all() else "not known"
        rows.append([name(loss), *cells, grows])
    heads = [f"lr at {surface.batches[at]:.0f}" for at in columns]
    text = (
        "The best rate at an effective batch, with its 80% interval, and the exponent of its growth: 0 where "
        "the batch does not matter, .5 where it grows as its square root, 1 where it grows in proportion."
    )
    return Section("Best rate by effective batch", [text], ["loss", *heads, "exponent"], rows, folded=True)
