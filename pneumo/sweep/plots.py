"""Plots of a study with matplotlib, for its page and its MLflow run."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib.axes import Axes
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

COLORMAP = colormaps["viridis"]
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
    if len(complete) > 1 and len(varied_distributions(complete)) > 1:
        yield "Parallel coordinates", parallel(complete, objective)


def history(trials: Trials, complete: Trials, objective: str, direction: str) -> Figure:
    """The value of every trial by its number, and the best value so far."""
    figure, axis = one_axis("trial", objective)
    pruned = [(t.number, t.values[0]) for t in trials if t.state == TrialState.PRUNED and t.values]
    axis.scatter([n for n, _ in pruned], [v for _, v in pruned], s=18, color=GREY, label="pruned")
    numbers, values = zip(*sorted((t.number, t.values[0]) for t in complete), strict=True)
    best = (np.minimum if direction == "MINIMIZE" else np.maximum).accumulate(values)
    axis.scatter(numbers, values, s=24, color=NEGATIVE, label="complete", zorder=3)
    axis.step(numbers, best, where="post", color=POSITIVE, linewidth=1.2, label="best so far")
    axis.legend(frameon=False, fontsize=8)
    return figure


def curves(trials: Trials, best: FrozenTrial, objective: str) -> Figure:
    """The objective of all trials by epoch, the best trial in colour."""
    figure, axis = one_axis("epoch (x: pruned there)", objective)
    for trial in trials:
        if trial.intermediate_values and DUPLICATE_OF not in trial.user_attrs:
            marker = "x" if trial.state == TrialState.PRUNED else "None"
            epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
            axis.plot(epochs, values, color=GREY, linewidth=0.8, alpha=0.6)
            axis.plot(epochs[-1], values[-1], marker=marker, markersize=4, color=GREY)
    if curve := sorted(best.intermediate_values.items()):
        axis.plot(*zip(*curve, strict=True), color=POSITIVE, linewidth=2, label=f"best, #{best.number}")
        axis.legend(frameon=False, fontsize=8)
    return figure


def importances(shares: dict[str, float]) -> Figure:
    figure = Figure(figsize=(7, 0.6 + 0.36 * len(shares)), layout="constrained")
    axis = figure.subplots()
    names, values = [plain(labels.name(name)) for name in shares], list(shares.values())
    bars = axis.barh(names, values, color=NEGATIVE, height=0.6)
    axis.bar_label(bars, fmt="{:.0%}", padding=4, fontsize=9)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.1 * max(values)), xticks=[])
    tidy(axis)
    axis.spines["bottom"].set_visible(False)
    return figure


def slices(complete: Trials, objective: str) -> Figure:
    """The objective by the value of each parameter."""
    scales = varied_distributions(complete)
    figure = Figure(figsize=(max(3.0 * len(scales), 4), 3.2), layout="constrained")
    axes = figure.subplots(1, len(scales), sharey=True, squeeze=False)[0]
    for axis, (name, distribution) in zip(axes, scales.items(), strict=True):
        points = [(position(distribution, t.params[name]), t.values[0]) for t in complete if name in t.params]
        axis.scatter(*zip(*points, strict=True), s=22, color=NEGATIVE, alpha=0.8)
        places, texts = ticks(distribution)
        axis.set(xlabel=plain(labels.name(name)), xlim=(-0.08, 1.08))
        axis.set_xticks(places, texts, rotation=30 if len("".join(texts)) > 24 else 0, fontsize=8)
        tidy(axis)
    figure.axes[0].set_ylabel(objective)
    return figure


def parallel(complete: Trials, objective: str) -> Figure:
    """A line for each trial across its parameters, coloured by the objective."""
    scales = varied_distributions(complete)
    values = [trial.values[0] for trial in complete]
    low, high = min(values), max(values)
    span = high - low or 1.0
    figure = Figure(figsize=(1.9 * (len(scales) + 1), 4), layout="constrained")
    axis = figure.subplots()
    for trial in complete[::-1]:
        height, places = (trial.values[0] - low) / span, list(enumerate(scales.items()))
        points = [(x, position(d, trial.params[name])) for x, (name, d) in places if name in trial.params]
        line = zip(*points, (len(scales), height), strict=True)
        axis.plot(*line, color=COLORMAP(height), linewidth=1.6, alpha=0.85)
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
    box = {"fc": "white", "ec": "none", "pad": 0.8}
    for place, label in zip(places, labels, strict=True):
        axis.text(x + 0.04, place, label, fontsize=8, va="center", bbox=box)


def varied_distributions(trials: Trials) -> dict[str, BaseDistribution]:
    """The distributions of the parameters that have more than one value."""
    distributions = {name: each for trial in trials for name, each in trial.distributions.items()}
    return {name: each for name, each in distributions.items() if not each.single()}


def position(distribution: BaseDistribution, value: Value) -> float:
    """A value on a scale from 0 to 1 between the ends of its distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices).index(value) / (len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = np.array([distribution.low, distribution.high, value], float)
    low, high, here = np.log(ends) if distribution.log else ends
    return float((here - low) / (high - low))


def ticks(distribution: BaseDistribution) -> tuple[list[float], list[str]]:
    """Positions from 0 to 1, as of `position`, and labels."""
    if isinstance(distribution, CategoricalDistribution):
        marks: list[Any] = list(distribution.choices)
        texts = [plain(str(choice)) for choice in distribution.choices]
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = distribution.low, distribution.high
        marks = [low, (low + high) / 2, high]
        if distribution.log:
            powers = [float(f"1e{exponent}") for exponent in range(-12, 13)]
            marks = [power for power in powers if low * 0.999 <= power <= high * 1.001] or [low, high]
        texts = [scientific(mark) if distribution.log else f"{mark:g}" for mark in marks]
    return [position(distribution, mark) for mark in marks], texts


def one_axis(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis = figure.subplots()
    tidy(axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axis
