"""The second attempt of a run that does not learn: a safer setting, new weights and a new order."""

from dataclasses import replace
from typing import Any

import numpy as np

from pneumo.components.augment import DISTORTIONS
from pneumo.components.optimizers import AdamW
from pneumo.runs.experiment import Experiment, Parameter
from pneumo.training.distributed import process_count

POSITIVE_SHARE = 0.8


def safer_setting(experiment: Experiment) -> dict[str, Parameter]:
    """The values that change in the second attempt, by their dotted names: images as they are but for a crop
    and mirroring, at least four positives of five images at first, the lesion masks where there are some,
    clipped gradients, and a third of the learning rate, which for AdamW is at most a third of its default,
    however it is scaled with the batch (docs/evidence.md)."""
    fit, model, optimizer = experiment.fit, experiment.model, experiment.optimizer
    scale = optimizer.resolved_lr(fit.effective_batch * process_count()) / optimizer.lr
    highest_lr = AdamW.lr / scale if isinstance(optimizer, AdamW) else optimizer.lr
    takes_masks = model.takes_mask_head and not model.gives_features
    safer: dict[str, Parameter] = {
        **dict.fromkeys((f"augment.{name}" for name in DISTORTIONS), 0.0),
        "model.mask_head": model.mask_head or "auto" if takes_masks else model.mask_head,
        "fit.positive_share": max(fit.positive_share or 0.0, POSITIVE_SHARE),
        "optimizer.lr": min(optimizer.lr, highest_lr) / 3,
        "fit.clip_norm": min(fit.clip_norm or 1.0, 1.0),
    }
    return {name: value for name, value in safer.items() if value_of(experiment, name) != value}


def value_of(experiment: Experiment, name: str) -> Parameter:
    """The value of a parameter of this dotted name."""
    group, field = name.split(".")
    value: Parameter = getattr(getattr(experiment, group), field)
    return value


def second_attempt(experiment: Experiment) -> Experiment:
    """The experiment with the safer setting, and with a seed that follows from its own. Its parameters and
    its identity stay those of the run."""
    groups: dict[str, Any] = {}
    for name, value in safer_setting(experiment).items():
        group, field = name.split(".")
        groups[group] = replace(groups.get(group, getattr(experiment, group)), **{field: value})
    seed = int(np.random.SeedSequence([experiment.seed, 1]).generate_state(1)[0])
    return replace(experiment, seed=seed, **groups)
