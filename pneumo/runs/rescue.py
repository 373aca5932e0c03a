"""The second attempt of a run that does not learn: a safer setting, new weights and a new order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pneumo.components.augment import DISTORTIONS
from pneumo.runs.experiment import Experiment, Parameter

POSITIVE_SHARE = 0.8

# parameter -> its value in the second attempt, from that in the first: images as they are but for a crop and
# mirroring, more positives at first, the lesion masks where there are some, a rate that is not too high, and
# clipping (docs/evidence.md)
SAFER: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys((f"augment.{name}" for name in DISTORTIONS), lambda value: 0.0),
    "model.mask_head": lambda mask_head: mask_head or "auto",
    "fit.positive_share": lambda share: max(share or 0.0, POSITIVE_SHARE),
    "optimizer.lr": lambda lr: lr / 3,
    "fit.clip_norm": lambda clip_norm: min(clip_norm or 1.0, 1.0),
}


def safer_setting(experiment: Experiment) -> dict[str, Parameter]:
    """The values that change in the second attempt, by their dotted names."""
    takes_masks = experiment.model.takes_mask_head and not experiment.model.gives_features
    setting: dict[str, Parameter] = {}
    for name, safer in SAFER.items():
        group, field = name.split(".")
        value = getattr(getattr(experiment, group), field)
        if safer(value) != value and (takes_masks or field != "mask_head"):
            setting[name] = safer(value)
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
