"""Which searched parameters the objective depends on, by fANOVA, and how sure that is."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import Interval
from pneumo.sweep.attributes import DESIGN, DUPLICATE_OF

MIN_COMPLETE = 5  # trials
N_HALVES = 20  # random halves of the trials
TREES_OF_A_HALF = 16  # a fourth of the trees of the share itself: only the spread is wanted
Found = TypeVar("Found")


def kept(compute: Callable[[optuna.Study], Found]) -> Callable[[optuna.Study], Found]:
    """The same function, which computes anew only where the study has other complete trials: a page needs
    its result several times, and with 300 trials it takes ten seconds."""
    known: WeakKeyDictionary[optuna.Study, tuple[list[int], Found]] = WeakKeyDictionary()

    @wraps(compute)
    def of_study(study: optuna.Study) -> Found:
        numbers = [t.number for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        if study not in known or known[study][0] != numbers:
            known[study] = numbers, compute(study)
        return known[study][1]

    return of_study


def distinct(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, each result once: without those that took it over from an equal trial."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in complete if DUPLICATE_OF not in trial.user_attrs]


@kept
def importance(study: optuna.Study) -> dict[str, float]:
    """Parameter -> share of the first objective's variance over the complete trials, each result once, by
    fANOVA (Hutter et al., 2014), largest first; empty if there are too few, and of a design, whose arms are
    chosen."""
    if study.user_attrs.get(DESIGN):
        return {}
    complete = distinct(study)
    if len(complete) < MIN_COMPLETE or len({t.values[0] for t in complete}) < 2:
        return {}
    return fanova(study_of(complete, study.directions), seed=0)


@kept
def importance_spread(study: optuna.Study) -> dict[str, Interval]:
    """Parameter -> the 10% and 90% quantiles of its share over `N_HALVES` random halves of the complete
    trials, each result once: how much it depends on which trials there happen to be. An estimate from half of
    the data varies around that from all of them as much as that one varies itself (the delete-half jackknife;
    Efron and Tibshirani, 1993, section 11.7). Empty where there are too few trials."""
    shares, complete = importance(study), distinct(study)
    if len(complete) < 2 * MIN_COMPLETE:
        return {}
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in shares}
    for seed in range(N_HALVES):
        drawn = [complete[i] for i in random.permutation(len(complete))[: len(complete) // 2]]
        if len({trial.values[0] for trial in drawn}) < 2:
            continue
        of_half = fanova(study_of(drawn, study.directions), seed, TREES_OF_A_HALF)
        for name, values in found.items():
            values.append(of_half.get(name, 0.0))
    return {name: tuple(np.quantile(values, [0.1, 0.9])) for name, values in found.items() if values}


def fanova(study: optuna.Study, seed: int, n_trees: int = 64) -> dict[str, float]:
    target = (lambda trial: trial.values[0]) if len(study.directions) > 1 else None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed, n_trees=n_trees)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    return {name: float(share) for name, share in shares.items()}


def study_of(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> optuna.Study:
    """A study in memory of these trials."""
    study = optuna.create_study(directions=list(directions))
    study.add_trials(trials)
    return study
