"""Plots of a study with matplotlib, for its page and its MLflow run."""

from collections.abc import Iterator, Sequence

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import scientific
from pneumo.evaluation.plots import GREY, NEGATIVE, POSITIVE, plain, tidy
from pneumo.sweep import labels
from pneumo.sweep.attributes import DUPLICATE_OF, OBJECTIVE
from pneumo.sweep.search_space import Value
from pneumo.sweep.summary import best_first, importance

COLORMAP = "viridis"
Trials = Sequence[FrozenTrial]


def of_study(study: optuna.Study) -> Iterator[tuple[str, Figure]]:
    """The captions and plots that there are enough trials for."""
    trials = study.get_trials(deepcopy=False)
    objective = study.user_attrs.get(OBJECTIVE, ["objective"])[0]
    complete = best_first(study)
    if not complete:
        return
    yield "History", history(trials, complete, objective, study.directions[0].name)
    if any(trial.intermediate_values for trial in trials):
        yield "Learning curves", curves(trials, complete[0], objective)
    if "arm" in complete[0].params:
        return
    if shares := importance(study):
        yield "Importances", importances(shares)
    yield "Slices", slices(complete, objective)
    if len(complete) > 1 and len(distributions_of(complete)) > 1:
        yield "Parallel coordinates", parallel(complete, objective)


def history(trials: Trials, complete: Trials, objective: str, direction: str) -> Figure:
    """The value of every trial by its number, and the best value so far."""
    figure, axis = one_axis()
    pruned = [t for t in trials if t.state == TrialState.PRUNED and t.values]
    axis.scatter([t.number for t in pruned], [t.values[0] for t in pruned], s=18, color=GREY, label="pruned")
    ordered = sorted(complete, key=lambda trial: trial.number)
    numbers, values = [t.number for t in ordered], [t.values[0] for t in ordered]
    running = np.minimum if direction == "MINIMIZE" else np.maximum
    axis.scatter(numbers, values, s=24, color=NEGATIVE, label="complete", zorder=3)
    axis.step(
        numbers, running.accumulate(values), where="post", color=POSITIVE, linewidth=1.2, label="best so far"
    )
    axis.set(xlabel="trial", ylabel=objective)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=8)
    return figure


def curves(trials: Trials, best: FrozenTrial, objective: str) -> Figure:
    """The objective of all trials by epoch, the best trial in colour."""
    figure, axis = one_axis()
    for trial in trials:
        if trial.intermediate_values and DUPLICATE_OF not in trial.user_attrs:
            epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
            axis.plot(epochs, values, color=GREY, linewidth=0.8, alpha=0.6)
            if trial.state == TrialState.PRUNED:
                axis.plot(epochs[-1], values[-1], marker="x", markersize=4, color=GREY)
    if best.intermediate_values:
        epochs, values = zip(*sorted(best.intermediate_values.items()), strict=True)
        axis.plot(epochs, values, color=POSITIVE, linewidth=2, label=f"best, #{best.number}")
        axis.legend(frameon=False, fontsize=8)
    axis.set(xlabel="epoch (x: pruned there)", ylabel=objective)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def importances(shares: dict[str, float]) -> Figure:
    figure = Figure(figsize=(7, 0.6 + 0.36 * len(shares)), layout="constrained")
    axis = figure.subplots()
    names = [plain(labels.name(name)) for name in shares][::-1]
    bars = axis.barh(names, list(shares.values())[::-1], color=NEGATIVE, height=0.6)
    axis.bar_label(
        bars, labels=[f"{share:.0%}" for share in list(shares.values())[::-1]], padding=4, fontsize=9
    )
    axis.set(xlim=(0, 1.1 * max(shares.values())), xticks=[])
    tidy(axis)
    axis.spines["bottom"].set_visible(False)
    return figure


def slices(complete: Trials, objective: str) -> Figure:
    """The objective by the value of each parameter."""
    scales = distributions_of(complete)
    figure = Figure(figsize=(max(3.0 * len(scales), 4), 3.2), layout="constrained")
    axes = figure.subplots(1, len(scales), sharey=True, squeeze=False)[0]
    for axis, (name, distribution) in zip(axes, scales.items(), strict=True):
        shown = [trial for trial in complete if name in trial.params]
        x = [position(distribution, trial.params[name]) for trial in shown]
        axis.scatter(x, [trial.values[0] for trial in shown], s=22, color=NEGATIVE, alpha=0.8)
        places, texts = ticks(distribution)
        axis.set(xlabel=plain(labels.name(name)), xlim=(-0.08, 1.08))
        axis.set_xticks(places, texts, rotation=30 if len("".join(texts)) > 24 else 0, fontsize=8)
        tidy(axis)
    figure.axes[0].set_ylabel(objective)
    return figure


def parallel(complete: Trials, objective: str) -> Figure:
    """A line for each trial across its parameters, coloured by the objective."""
    scales = distributions_of(complete)
    values = np.array([trial.values[0] for trial in complete])
    low, high = float(values.min()), float(values.max())
    span = high - low or 1.0
    figure = Figure(figsize=(1.9 * (len(scales) + 1), 4), layout="constrained")
    axis = figure.subplots()
    lines = []
    for trial, value in zip(complete, values, strict=True):
        points = [
            (x, position(scales[name], trial.params[name]))
            for x, name in enumerate(scales)
            if name in trial.params
        ]
        lines.append([*points, (len(scales), (value - low) / span)])
    norm = Normalize(low, high)
    curves = LineCollection(lines[::-1], cmap=COLORMAP, norm=norm, linewidths=1.6, alpha=0.85)
    curves.set_array(values[::-1])
    axis.add_collection(curves)
    for x, distribution in enumerate(scales.values()):
        vertical_scale(axis, x, *ticks(distribution))
    marks = [0, 0.5, 1]
    vertical_scale(axis, len(scales), marks, [f"{low + mark * span:.3f}" for mark in marks])
    names = [plain(labels.name(name)) for name in scales]
    axis.set_xticks(range(len(scales) + 1), [*names, objective])
    axis.set(xlim=(-0.3, len(scales) + 0.6), ylim=(-0.05, 1.05), yticks=[])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def vertical_scale(axis: Axes, x: float, places: Sequence[float], labels: Sequence[str]) -> None:
    axis.axvline(x, color="black", linewidth=0.6, zorder=0)
    for place, label in zip(places, labels, strict=True):
        axis.text(
            x + 0.04, place, label, fontsize=8, va="center", bbox={"fc": "white", "ec": "none", "pad": 0.8}
        )


def distributions_of(trials: Trials) -> dict[str, BaseDistribution]:
    """The scales of the parameters that have more than one value."""
    found: dict[str, BaseDistribution] = {}
    for trial in trials:
        found |= trial.distributions
    return {name: found[name] for name in found if not found[name].single()}


def position(distribution: BaseDistribution, value: Value) -> float:
    """A value on a scale from 0 to 1 between the ends of its distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices).index(value) / (len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = np.array([distribution.low, distribution.high, value], float)
    low, high, here = np.log(ends) if distribution.log else ends
    return float((here - low) / (high - low))


def ticks(distribution: BaseDistribution) -> tuple[list[float], list[str]]:
    """Positions and labels."""
    if isinstance(distribution, CategoricalDistribution):
        places = [position(distribution, choice) for choice in distribution.choices]
        return places, [plain(str(choice)) for choice in distribution.choices]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        marks = [10.0**e for e in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
        marks = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001] or [low, high]
        return [position(distribution, mark) for mark in marks], [scientific(mark) for mark in marks]
    marks = [low, (low + high) / 2, high]
    return [position(distribution, mark) for mark in marks], [f"{mark:g}" for mark in marks]


def one_axis() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis = figure.subplots()
    tidy(axis)
    return figure, axis
