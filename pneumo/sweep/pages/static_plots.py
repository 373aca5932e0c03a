"""The plots of optuna.visualization.matplotlib as PNG files for a study's run in MLflow, which shows
them without opening the page."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from pneumo.display import pages
from pneumo.display.charts import GREY, ORANGE
from pneumo.evaluation.plots import forest, plain
from pneumo.sweep import labels
from pneumo.sweep.attributes import DUPLICATE_OF, OBJECTIVE
from pneumo.sweep.design.ablation import AblationDesign, stored_design
from pneumo.sweep.design.conclusions import OUTCOMES, answers
from pneumo.sweep.pages.importance import importance, study_of
from pneumo.sweep.pages.scales import varied_distributions
from pneumo.sweep.summary import best_first


def of_study(study: optuna.Study) -> Iterator[tuple[str, bytes]]:
    """Captions and PNG files of the plots that there are enough trials for; of a design, its effects."""
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    if design := stored_design(study):
        yield from of_design(study, design)
        return
    complete = best_first(study)
    if not complete:
        return
    objectives = study.user_attrs.get(OBJECTIVE, ["objective"])
    shown = readable(study)
    several = len(objectives) > 1
    target: dict[str, Any] = {"target_name": plain(objectives[0]), "target": first_value if several else None}
    drawn: dict[str, Callable[[], Any]] = {
        "History": lambda: plots.plot_optimization_history(shown, **target)
    }
    if any(trial.intermediate_values for trial in complete):
        drawn["Learning curves"] = lambda: learning_curves(shown, complete[0])
    names = [plain(labels.name(name)) for name in varied_distributions(complete)]
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    if importance(study):
        drawn["Importances"] = lambda: plots.plot_param_importances(shown, evaluator, **target)
    if names:
        drawn["Slices"] = lambda: plots.plot_slice(shown, params=names, **target)
    if len(complete) > 1 and len(names) > 1:
        drawn["Parallel coordinates"] = lambda: plots.plot_parallel_coordinate(shown, params=names, **target)
    if len(objectives) in (2, 3):
        drawn["Pareto front"] = lambda: plots.plot_pareto_front(
            shown, target_names=list(map(plain, objectives))
        )
    style: Any = {"figure.figsize": (8, 4.5), "figure.constrained_layout.use": True}
    for caption, draw in drawn.items():
        with plt.rc_context(style), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # experimental, or an axis with a single value
            draw()
            figure = plt.gcf()
            try:
                yield caption, pages.png(figure)
            finally:
                plt.close(figure)


def of_design(study: optuna.Study, design: AblationDesign) -> Iterator[tuple[str, bytes]]:
    """The effects on the AUROC, a file for each recipe: a row for each question and rate."""
    found = [a for a in answers(study, design) if a.outcome is OUTCOMES["auroc"]]
    for recipe in design.recipes:
        rows = [
            (f"{a.name}, {a.rate} rate", a.effect.mean, (a.effect.low, a.effect.high))
            for a in found
            if a.recipe == recipe and not np.isnan(a.effect.low)
        ]
        if rows:
            what = "change of val AUROC, 95% interval"
            yield f"What helps {recipe}", pages.png(forest(rows, 0.0, recipe, what))


def learning_curves(shown: optuna.Study, best: FrozenTrial) -> None:
    """Optuna's plot with the best trial in orange and the others grey, instead of a colour for each."""
    from optuna.visualization import matplotlib as plots

    axis = plots.plot_intermediate_values(shown)
    for line in axis.lines:
        is_best = line.get_label() == f"Trial{best.number}"
        line.set(color=ORANGE if is_best else GREY, zorder=3 if is_best else 2, marker="")
    axis.legend([line for line in axis.lines if line.get_zorder() == 3], [f"best, #{best.number}"])


def first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def readable(study: optuna.Study) -> optuna.Study:
    """A copy in memory whose parameters have the names that tables show. A trial that took over the result of
    an equal one is a failed one there, which no plot counts: without it, the numbers of later trials would
    shift."""
    copies = []
    for trial in study.get_trials(deepcopy=False):
        is_counted = trial.state.is_finished() and DUPLICATE_OF not in trial.user_attrs
        pairs = {name: shown(trial, name) for name in trial.params}
        copies.append(
            create_trial(
                state=trial.state if is_counted else TrialState.FAIL,
                values=trial.values if is_counted else None,
                params={plain(labels.name(name)): value for name, (value, _) in pairs.items()},
                distributions={
                    plain(labels.name(name)): distribution for name, (_, distribution) in pairs.items()
                },
                intermediate_values=trial.intermediate_values if is_counted else {},
            )
        )
    return study_of(copies, study.directions)


def shown(trial: FrozenTrial, name: str) -> tuple[Any, Any]:
    """A parameter's value and distribution, text as it is to be drawn."""
    distribution, value = trial.distributions[name], trial.params[name]
    if not isinstance(distribution, CategoricalDistribution) or not isinstance(value, str):
        return value, distribution
    choices = [plain(each) if isinstance(each, str) else each for each in distribution.choices]
    return plain(value), CategoricalDistribution(choices)
