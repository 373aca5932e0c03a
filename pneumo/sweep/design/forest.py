"""Charts of a designed study: a forest plot of its answers, and the curves of each pair."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, styled
from pneumo.display.format import scientific, signed_decimal
from pneumo.sweep.design.ablation import OWN, SAME, AblationDesign
from pneumo.sweep.design.conclusions import EQUIVALENT, OUTCOMES, Answer
from pneumo.sweep.design.paired_effects import NO_EVIDENCE, UNKNOWN

AUROC = OUTCOMES["auroc"]
COLOURS = {AUROC.more: GREEN, AUROC.less: RED, EQUIVALENT: BLUE, NO_EVIDENCE: GREY, UNKNOWN: GREY}
SYMBOLS = {SAME: "circle-open", OWN: "circle"}
LABELS = {SAME: "at the same learning rate", OWN: "each side at its own best rate"}
ROW, AROUND = 34, 190  # pixels of a row, and of titles, legend and axis
WIDEST = 0.6  # the AUROC's changes that are shown: an interval of two seeds may be wider than all there is
OFFSET = {SAME: -0.14, OWN: 0.14}


def forest_plot(answers: Sequence[Answer]) -> Chart:
    """A row a question, a column a recipe: the change of the val AUROC with its 95% interval, hollow at the
    same rate, filled at the sides' own, coloured by the verdict. The band is what makes no difference."""
    from plotly.graph_objects import Figure
    from plotly.subplots import make_subplots

    shown = [answer for answer in answers if answer.outcome is AUROC]
    recipes = list(dict.fromkeys(answer.recipe for answer in shown))
    names = list(dict.fromkeys(answer.name for answer in shown))
    figure: Figure = make_subplots(
        1, len(recipes), shared_yaxes=True, horizontal_spacing=0.02, subplot_titles=recipes
    )
    for column, recipe in enumerate(recipes, start=1):
        for answer in shown:
            if answer.recipe == recipe and not np.isnan(answer.effect.low):
                figure.add_trace(_mark(answer, names.index(answer.name)), 1, column)
    for column in range(1, len(recipes) + 1):  # a subplot takes no lines before it has marks
        figure.add_vrect(
            -AUROC.margin, AUROC.margin, fillcolor=GREY, opacity=0.2, line_width=0, col=column, row=1
        )
        figure.add_vline(0, line_color=GREY, line_width=1, col=column, row=1)
    for verdict in (AUROC.more, AUROC.less, EQUIVALENT, NO_EVIDENCE):
        figure.add_trace(_legend(verdict, "circle", COLOURS[verdict]), 1, 1)
    for rate in dict.fromkeys(answer.rate for answer in shown):
        figure.add_trace(_legend(LABELS[rate], SYMBOLS[rate], GREY), 1, 1)
    styled(figure, AROUND + ROW * len(names))
    ends = [abs(end) for a in shown for end in (a.effect.low, a.effect.high) if not np.isnan(end)]
    widest = min(1.05 * max(ends, default=WIDEST), WIDEST)
    axis = {"title_text": "change of val AUROC", "zeroline": False, "tickformat": "+.1f"}
    figure.update_xaxes(**axis, range=[-widest, widest])
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}
    figure.update_yaxes(**ticks, showgrid=False, zeroline=False)
    figure.update_layout(legend_y=1 + 45 / (ROW * len(names)), margin_t=110)
    return Chart(figure, description(shown), min_width=760)


def _mark(answer: Answer, place: int) -> Any:
    from plotly.graph_objects import Scatter

    effect, colour = answer.effect, COLOURS[answer.verdict]
    rates = " → ".join(scientific(rate) for rate in answer.rates if rate is not None)
    styles = "".join(f"<br>{name}: {signed_decimal(change)}" for name, change in answer.by_style.items())
    interval = f"({signed_decimal(effect.low)}, {signed_decimal(effect.high)})"
    return Scatter(
        x=[effect.mean],
        y=[place + OFFSET[answer.rate]],
        error_x={
            "array": [effect.high - effect.mean],
            "arrayminus": [effect.mean - effect.low],
            "color": colour,
            "thickness": 1.6,
            "width": 0,
        },
        mode="markers",
        marker={
            "color": colour,
            "symbol": SYMBOLS[answer.rate],
            "size": 9,
            "line": {"width": 2, "color": colour},
        },
        hovertemplate=(
            f"<b>{answer.name}</b>: {answer.question['tested']}<br>{answer.verdict}: "
            f"{signed_decimal(effect.mean)} {interval}, {effect.n} pairs<br>"
            f"{LABELS[answer.rate]} {rates}{styles}<extra></extra>"
        ),
        showlegend=False,
    )


def _legend(name: str, symbol: str, colour: str) -> Any:
    from plotly.graph_objects import Scatter

    marker = {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}}
    return Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)


def description(answers: Sequence[Answer]) -> str:
    """What the plot shows, for those who cannot see it."""
    by_verdict = {
        verdict: sum(answer.verdict == verdict for answer in answers)
        for verdict in (AUROC.more, AUROC.less, EQUIVALENT, NO_EVIDENCE)
    }
    counts = ", ".join(f"{n} {verdict}" for verdict, n in by_verdict.items())
    return (
        f"Forest plot of {len(answers)} effects on the validation AUROC: {counts}. The table has the numbers."
    )


def curves(design: AblationDesign, trials: Sequence[FrozenTrial], answers: Sequence[Answer]) -> Chart | None:
    """The mean val AUROC by epoch before (grey) and after (orange) each change, a column a recipe; a menu
    chooses the question. At the sides' own rates where they were tried, else at the same."""
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    by_arm: dict[tuple[str, str], list[dict[int, float]]] = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.intermediate_values:
            key = trial.params["arm"], trial.params.get("rate", SAME)
            by_arm.setdefault(key, []).append(trial.intermediate_values)
    shown = {
        (a.name, a.recipe): a for a in answers if a.outcome is AUROC and "interacts_with" not in a.question
    }
    recipes = list(dict.fromkeys(recipe for _, recipe in shown))
    names = list(dict.fromkeys(name for name, _ in shown))
    figure: Figure = make_subplots(
        1, len(recipes), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=recipes
    )
    owners: list[str] = []
    for (name, recipe), answer in shown.items():
        for side, colour, arm in zip(
            ("before", "after"), (GREY, ORANGE), design.pair(recipe, answer.question), strict=True
        ):
            runs = by_arm.get((arm, answer.rate), [])
            epochs = sorted({epoch for run in runs for epoch in run})
            means = [float(np.mean([run[epoch] for run in runs if epoch in run])) for epoch in epochs]
            line = Scatter(
                x=epochs,
                y=means,
                name=side,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                visible=name == names[0],
                showlegend=recipe == recipes[0],
                hovertemplate=f"{arm}<br>epoch %{{x}}: %{{y:.3f}}, mean of {len(runs)}<extra></extra>",
            )
            figure.add_trace(line, 1, recipes.index(recipe) + 1)
            owners.append(name)
    if not owners:
        return None
    styled(figure, 380)
    buttons = [
        {"label": name, "method": "restyle", "args": [{"visible": [owner == name for owner in owners]}]}
        for name in names
    ]
    menu = {
        "buttons": buttons,
        "x": 0,
        "xanchor": "left",
        "y": 1.3,
        "yanchor": "bottom",
        "bgcolor": "#dfe3e8",
    }
    figure.update_layout(updatemenus=[menu], margin_t=120, legend_x=0.5, legend_y=1.3)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="val AUROC", col=1)
    text = "Mean validation AUROC by epoch before and after each change; a menu chooses the question."
    return Chart(figure, text, min_width=640)
