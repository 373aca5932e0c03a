"""The learning rate that an arm of a design is best at, chosen by seeds that judge nothing else."""

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from pneumo.errors import InputError
from pneumo.sweep.attributes import CHOSEN_RATES, EPOCHS, METRICS
from pneumo.sweep.design.ablation import LR, OWN, SAME, AblationDesign
from pneumo.sweep.private_api import known_params
from pneumo.sweep.search_space import Value
from pneumo.sweep.storage import StudyStorage

CHOSEN_BY = "last/val_auroc"  # as the conclusions are judged
MARGIN = 0.05  # of the AUROC: a rate that began at .5 like the others was best with another seed


class RatePruner(BasePruner):
    """Stops a rate that is clearly behind others of its arm and seed: after a third of its epochs, if its
    best value so far is more than MARGIN below the median of what those that are through had by then. Runs
    that have learned nothing yet differ by less, and the slowest of them may be the best in the end. Other
    trials are never stopped."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step, epochs = trial.last_step, trial.user_attrs.get(EPOCHS, 0)
        if not is_tuning(trial) or step is None or step < max(2, epochs / 3):
            return False
        rivals = [
            best_until(other, step)
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if is_tuning(other) and all(other.params[k] == trial.params[k] for k in ("arm", "seed"))
        ]
        return bool(rivals and best_until(trial, step) < np.median(rivals) - MARGIN)


def best_until(trial: FrozenTrial, step: int) -> float:
    return max(value for at, value in trial.intermediate_values.items() if at <= step)


def is_tuning(trial: FrozenTrial) -> bool:
    """Whether a trial tries a rate for its arm."""
    return known_params(trial).get("rate", SAME) not in (SAME, OWN)


def tried_rates(trials: Sequence[FrozenTrial], arm: str) -> dict[float, list[float]]:
    """Rate -> the values that complete trials of this arm reached with it, in the order of the rates."""
    tried: dict[float, list[float]] = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE and is_tuning(trial) and trial.params["arm"] == arm:
            value = trial.user_attrs.get(METRICS, {}).get(CHOSEN_BY, trial.value)
            tried.setdefault(float(trial.params["rate"]), []).append(value)
    return dict(sorted(tried.items()))


def best_rate(trials: Sequence[FrozenTrial], arm: str) -> float | None:
    """The rate with the highest mean among those that complete trials have tried with the most seeds; None
    while there is none."""
    tried = tried_rates(trials, arm)
    most = max(map(len, tried.values()), default=0)
    means = {rate: float(np.mean(values)) for rate, values in tried.items() if len(values) == most}
    return max(means, key=lambda rate: means[rate], default=None)


class UndecidedError(Exception):
    """A rate cannot be chosen yet: trainings that it is chosen by are running."""


def with_rate(storage: StudyStorage, values: Mapping[str, Value]) -> dict[str, Value]:
    """The values of a trial, with the number of its arm's own rate. The first trial of an arm that needs it
    decides for all. UndecidedError: see there. InputError: no rate of the arm could be trained with."""
    if values.get("rate") != OWN:
        return dict(values)
    arm = str(values["arm"])
    with storage.lock():
        chosen = storage.study.user_attrs.get(CHOSEN_RATES, {})
        if arm not in chosen:
            running = storage.trials(TrialState.RUNNING)
            if any(is_tuning(trial) and known_params(trial)["arm"] == arm for trial in running):
                raise UndecidedError
            if (rate := best_rate(storage.trials(), arm)) is None:
                raise InputError(f"{arm}: with none of its learning rates a training ended")
            chosen = {**chosen, arm: rate}
            storage.study.set_user_attr(CHOSEN_RATES, chosen)
    return {**values, "rate": f"{chosen[arm]:g}"}


def chosen_rate(study: optuna.Study, design: AblationDesign, arm: str, rate: str) -> float | None:
    """The learning rate of an arm's trials at `rate`, SAME or OWN; None if it is not known yet, or is the
    default of its optimizer."""
    if rate == OWN:
        known: float | None = study.user_attrs.get(CHOSEN_RATES, {}).get(arm)
        return known
    value = design.arms[arm].get(LR, dict(line.partition("=")[::2] for line in design.fixed).get(LR))
    return None if value is None else float(str(value))
