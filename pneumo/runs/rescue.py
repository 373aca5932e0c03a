"""The second attempt of a run that does not learn: a safer setting, new weights and a new order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pneumo.runs.experiment import Experiment

# parameter -> its value in the second attempt, from that in the first
SAFER: dict[str, Callable[[Any], Any]] = {
    "optimizer.lr": lambda lr: lr / 3,
    "fit.clip_norm": lambda clip_norm: min(clip_norm or 1.0, 1.0),
}


def safer_setting(experiment: Experiment) -> dict[str, float]:
    """The values of the second attempt by their dotted names."""
    setting = {}
    for name, safer in SAFER.items():
        group, field = name.split(".")
        setting[name] = safer(getattr(getattr(experiment, group), field))
    return setting


def second_attempt(experiment: Experiment) -> Experiment:
    """The experiment with the safer setting, and with a seed that follows from its own. Its parameters and
    its identity stay those of the run."""
    groups: dict[str, Any] = {}
    for name, value in safer_setting(experiment).items():
        group, field = name.split(".")
        groups[group] = replace(groups.get(group, getattr(experiment, group)), **{field: value})
    seed = int(np.random.SeedSequence([experiment.seed, 1]).generate_state(1)[0])
    return replace(experiment, seed=seed, **groups)
