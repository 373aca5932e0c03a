"""Interactive charts of a study for its page. Trials that took over the result of an equal one are left out
of all of them, so that no result counts twice."""

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.charts import BLUE, GREY, ORANGE, RED, SKY, Chart, styled
from pneumo.display.format import Interval, decimal
from pneumo.display.pages import Section
from pneumo.sweep import labels
from pneumo.sweep.attributes import DUPLICATE_OF, OBJECTIVE, PROCESS
from pneumo.sweep.pages.importance import importance, importance_spread
from pneumo.sweep.pages.scales import position, ticks, varied_distributions
from pneumo.sweep.summary import best_first

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

WORSE_TO_BETTER = [[0.0, GREY], [0.6, BLUE], [1.0, ORANGE]]
STATE_COLORS = {"complete": BLUE, "pruned": GREY, "failed": RED}
SMALL = 280  # pixels high
CROWDED = 20  # letters of ticks, which a telephone has no room for side by side
Trials = Sequence[FrozenTrial]


def of_study(study: optuna.Study) -> Iterator[Section]:
    """The charts of a study that samples which there are enough trials for."""
    trials = [t for t in study.get_trials(deepcopy=False) if DUPLICATE_OF not in t.user_attrs]
    objectives = study.user_attrs.get(OBJECTIVE, ["objective"])
    complete = best_first(study)
    if not complete:
        return
    course = [
        history(trials, number, name, direction)
        for number, (name, direction) in enumerate(zip(objectives, study.directions, strict=True))
    ]
    if any(trial.intermediate_values for trial in trials):
        course.append(learning_curves(trials, complete[0], objectives[0]))
    yield Section("History and learning curves", plots={"": course})
    if len(objectives) > 1:
        yield Section("Pareto front", plots={"": pareto_fronts(study, complete, objectives)})
    scales = varied_distributions(complete)
    if shares := importance(study):
        chart = importances(shares, importance_spread(study))
        yield Section("Importances", plots={chart.description: [chart]})
    if scales:
        yield Section("Slices", plots={"": [slice_of(name, complete, objectives[0]) for name in scales]})
    if len(complete) > 1 and len(scales) > 1:
        chart = parallel_coordinates(complete, objectives, study.directions)
        yield Section("Parallel coordinates", plots={chart.description: [chart]})
    if chart_of_workers := timeline(trials):
        yield Section("Timeline", plots={chart_of_workers.description: [chart_of_workers]})


def history(trials: Trials, number: int, objective: str, direction: StudyDirection) -> Chart:
    """The value of every trial by its number, and the best value so far."""
    from plotly.graph_objects import Figure

    figure = Figure()
    pruned = [t for t in trials if t.state == TrialState.PRUNED and t.values]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    for name, group, color in (("pruned", pruned, GREY), ("complete", complete, BLUE)):
        if group:
            figure.add_scatter(
                **points([t.number for t in group], group, number), name=name, marker_color=color
            )
    values = [t.values[number] for t in complete]
    best = (np.minimum if direction == StudyDirection.MINIMIZE else np.maximum).accumulate(values)
    line = {"shape": "hv", "color": ORANGE, "width": 2}
    numbers = [t.number for t in complete]
    figure.add_scatter(x=numbers, y=best, mode="lines", line=line, name="best so far", hoverinfo="skip")
    styled(figure).update_layout(hovermode="closest")
    figure.update_xaxes(title="trial", tickformat="d")
    figure.update_yaxes(title=html.escape(objective))
    return Chart(figure, f"{objective} of each trial, and the best so far")


def points(x: Sequence[float], trials: Trials, number: int = 0) -> dict[str, object]:
    """Arguments of a scatter of trials: their values of an objective over `x`."""
    texts = [described(trial) for trial in trials]
    y = [trial.values[number] for trial in trials]
    return {"x": list(x), "y": y, "text": texts, "mode": "markers", "hovertemplate": "%{text}<extra></extra>"}


def described(trial: FrozenTrial) -> str:
    """The number, parameters and value of a trial, as plotly's HTML."""
    parts = [f"#{trial.number}: {labels.outcome(trial)}", *labels.parameters(trial.params).split(" · ")]
    return "<br>".join(map(html.escape, parts))


def learning_curves(trials: Trials, best: FrozenTrial, objective: str) -> Chart:
    """The objective of all trials by epoch: pruned ones grey, the best one in orange."""
    from plotly.graph_objects import Figure

    figure = Figure()
    others = [t for t in trials if t.intermediate_values and t.number != best.number]
    pruned = [t for t in others if t.state == TrialState.PRUNED]
    groups = {
        "pruned": (pruned, GREY, 1),
        "others": ([t for t in others if t not in pruned], SKY, 1),
        f"best, #{best.number}": ([best] if best.intermediate_values else [], ORANGE, 3),
    }
    for name, (group, color, width) in groups.items():
        x: list[int | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for trial in group:
            for epoch, value in sorted(trial.intermediate_values.items()):
                x.append(epoch)
                y.append(value)
                texts.append(f"epoch {epoch}: {decimal(value)}<br>{described(trial)}")
            x.append(None)  # ends the line
            y.append(None)
            texts.append("")
        if group:
            hover = "%{text}<extra></extra>"
            line = {"color": color, "width": width}
            figure.add_scatter(x=x, y=y, text=texts, name=name, mode="lines", line=line, hovertemplate=hover)
    styled(figure).update_layout(hovermode="closest")
    figure.update_xaxes(title="epoch", tickformat="d")
    figure.update_yaxes(title=html.escape(objective))
    return Chart(figure, f"{objective} by epoch: pruned trials are grey, the best one is orange")


def importances(shares: dict[str, float], spread: dict[str, Interval]) -> Chart:
    """A bar for each parameter, with the 10% and 90% quantiles over halves of the trials."""
    from plotly.graph_objects import Figure

    names = [html.escape(labels.name(name)) for name in shares]
    about = "Share of the objective's variance over the complete trials (fANOVA)"
    figure = Figure()
    texts = [
        f"{share:.0%}" + (f", halves {spread[name][0]:.0%} to {spread[name][1]:.0%}" if spread else "")
        for name, share in shares.items()
    ]
    figure.add_bar(
        x=list(shares.values()),
        y=names,
        orientation="h",
        marker_color=BLUE,
        customdata=texts,
        hovertemplate="%{y}: %{customdata}<extra></extra>",
    )
    if spread:
        about += "; the lines hold 80% of what random halves of these trials give"
        low, high = np.array([spread[name] for name in shares]).T
        line = {"array": (high - low) / 2, "color": ORANGE, "thickness": 2, "width": 6}
        figure.add_scatter(
            x=(low + high) / 2, y=names, mode="markers", marker_opacity=0, error_x=line, hoverinfo="skip"
        )
    styled(figure, 110 + 34 * len(shares)).update_layout(showlegend=False)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", ticksuffix=" ")
    return Chart(figure, about)


def slice_of(name: str, complete: Trials, objective: str) -> Chart:
    """The objective by the value of one parameter, the best trial in orange."""
    from plotly.graph_objects import Figure

    with_it = [trial for trial in complete if name in trial.params]
    distribution = with_it[0].distributions[name]
    x = [position(distribution, trial.params[name]) for trial in with_it]
    colors = [ORANGE if trial.number == complete[0].number else BLUE for trial in with_it]
    figure = Figure()
    figure.add_scatter(**points(x, with_it), marker={"color": colors, "size": 8, "opacity": 0.8})
    places, texts = ticks(distribution)
    styled(figure, SMALL).update_layout(hovermode="closest", showlegend=False)
    title = html.escape(labels.name(name))
    figure.update_xaxes(
        title=title,
        tickvals=places,
        ticktext=list(map(html.escape, texts)),
        tickangle=-40 if sum(map(len, texts)) > CROWDED else 0,
        range=[-0.06, 1.06],
        zeroline=False,
    )
    figure.update_yaxes(title=html.escape(objective))
    return Chart(figure, f"{objective} by {labels.name(name)}, complete trials")


def parallel_coordinates(
    complete: Trials, objectives: Sequence[str], directions: Sequence[StudyDirection]
) -> Chart:
    """A line for each trial, downwards across a horizontal scale for each parameter and each objective, in
    the colour of its first objective. Horizontal, names and ticks are readable on a telephone too."""
    from plotly.colors import sample_colorscale
    from plotly.graph_objects import Figure

    scales = varied_distributions(complete)
    values = np.array([trial.values for trial in complete], float)
    low, high = values.min(axis=0), values.max(axis=0)
    heights = (values - low) / np.where(high > low, high - low, 1)
    better = 1 - heights[:, 0] if directions[0] == StudyDirection.MINIMIZE else heights[:, 0]
    n = len(scales)
    figure = Figure()
    for trial, at, color in reversed(
        list(zip(complete, heights, sample_colorscale(WORSE_TO_BETTER, list(better)), strict=True))
    ):
        there = [(row, name) for row, name in enumerate(scales) if name in trial.params]
        x = [position(scales[name], trial.params[name]) for _, name in there]
        figure.add_scatter(
            x=[*x, *at],
            y=[*(-row for row, _ in there), *(-n - row for row in range(len(objectives)))],
            mode="lines+markers",
            line={"color": color, "width": 3 if trial is complete[0] else 1.4},
            opacity=0.9,
            marker={"size": 5},
            text=[described(trial)] * (len(x) + len(at)),
            hovertemplate="%{text}<extra></extra>",
        )
    rows = [(labels.name(name), *ticks(distribution)) for name, distribution in scales.items()]
    for column, objective in enumerate(objectives):
        ends = [f"{end:.3g}" for end in (low[column], high[column])]
        rows.append((objective, [0.0, 1.0], ends))
    styled(figure, 90 * len(rows) + 20).update_layout(showlegend=False, hovermode="closest")
    for row, (name, places, texts) in enumerate(rows):
        add_scale(figure, -row, name, places, texts)
    figure.update_xaxes(range=[-0.03, 1.03], visible=False, fixedrange=True)
    figure.update_yaxes(range=[0.6 - len(rows), 0.6], visible=False, fixedrange=True)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 10, "b": 10})
    return Chart(figure, f"Complete trials by all parameters; the better {objectives[0]}, the more orange")


def add_scale(figure: "Figure", y: float, name: str, places: Sequence[float], texts: Sequence[str]) -> None:
    """A horizontal scale at height `y`: a line with its name above and its ticks below it, every other one
    lower where they would not fit side by side on a telephone."""
    figure.add_shape(type="line", x0=0, x1=1, y0=y, y1=y, line={"color": GREY, "width": 1}, layer="below")
    note = {"showarrow": False, "y": y}
    bold = f"<b>{html.escape(name)}</b>"
    figure.add_annotation(x=0, text=bold, xanchor="left", yshift=18, font_size=12, **note)
    is_crowded = sum(map(len, texts)) > CROWDED
    for number, (place, text) in enumerate(zip(places, texts, strict=True)):
        anchor = "left" if place < 0.02 else "right" if place > 0.98 else "center"
        lower = 13 if is_crowded and number % 2 else 0
        shift = -12 - lower
        figure.add_annotation(
            x=place, text=html.escape(text), xanchor=anchor, yshift=shift, font_size=11, **note
        )


def pareto_fronts(study: optuna.Study, complete: Trials, objectives: Sequence[str]) -> list[Chart]:
    """The first objective over each of the others; the trials that no other one beats in all are orange."""
    from plotly.graph_objects import Figure

    unbeaten = {trial.number for trial in study.best_trials}
    charts = []
    for number in range(1, len(objectives)):
        figure = Figure()
        for name, color, is_unbeaten in (("others", BLUE, False), ("Pareto front", ORANGE, True)):
            group = [trial for trial in complete if (trial.number in unbeaten) == is_unbeaten]
            x = [trial.values[number] for trial in group]
            figure.add_scatter(**points(x, group), name=name, marker={"color": color, "size": 8})
        styled(figure).update_layout(hovermode="closest")
        figure.update_xaxes(title=html.escape(objectives[number]))
        figure.update_yaxes(title=html.escape(objectives[0]))
        charts.append(Chart(figure, f"{objectives[0]} over {objectives[number]}; the Pareto front is orange"))
    return charts


def timeline(trials: Trials) -> Chart | None:
    """When each worker trained which trial; None before the first trial has ended."""
    from plotly.graph_objects import Figure

    ended = [t for t in trials if t.datetime_start and t.datetime_complete and PROCESS in t.user_attrs]
    if not ended:
        return None
    figure, lanes = Figure(), lanes_of(ended)
    shown = list(dict.fromkeys(sorted(lanes.values())))
    for state, name in labels.STATE.items():
        group = [trial for trial in ended if trial.state == state]
        if group:
            figure.add_bar(
                base=[t.datetime_start for t in group],
                x=[1000 * labels.seconds(t) for t in group],  # plotly's unit of time is the millisecond
                y=[html.escape(lanes[t.number]) for t in group],
                orientation="h",
                name=name,
                marker={"color": STATE_COLORS[name], "line": {"width": 1, "color": "rgba(255,255,255,.8)"}},
                text=[described(trial) for trial in group],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
    styled(figure, 120 + 30 * len(shown)).update_layout(barmode="overlay", hovermode="closest", bargap=0.3)
    figure.update_xaxes(type="date", nticks=4, tickangle=0, tickformat="%H:%M\n%b %-d")
    figure.update_yaxes(categoryorder="array", categoryarray=shown[::-1], ticksuffix=" ")
    return Chart(figure, "When each worker trained which trial")


def lanes_of(ended: Trials) -> dict[int, str]:
    """Trial -> the worker that trained it. The workers of a machine are counted by how many trials it trained
    at the same time: a study that is continued has new processes, but no more workers."""
    hosts = {t.number: str(t.user_attrs[PROCESS]).rsplit(":", 2)[0] for t in ended}
    one_host = len(set(hosts.values())) == 1
    free: dict[str, list[float]] = {}  # host -> when each of its workers becomes free
    lanes = {}
    for trial in sorted(ended, key=lambda each: (each.datetime_start, each.number)):
        start = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        end = start + labels.seconds(trial)
        until = free.setdefault(hosts[trial.number], [])
        number = next((i for i, time in enumerate(until) if time <= start), len(until))
        until[number : number + 1] = [end]
        lanes[trial.number] = f"worker {number + 1}" if one_host else f"{hosts[trial.number]}, {number + 1}"
    return lanes
