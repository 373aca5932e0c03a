"""What a study optimizes: metrics of the validation split at the best epoch, or the training time.

A new metric of `evaluation.metrics.all_metrics` is an objective at once. If less of it is better, name it in
LOWER_IS_BETTER.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pneumo.errors import InputError
from pneumo.evaluation.metrics import compute_metrics

Direction = Literal["minimize", "maximize"]
TIME = "fit_seconds"
OBJECTIVES = [f"val/{name}" for name in compute_metrics(np.array([0, 1]), np.array([0.0, 1.0]))]
LOWER_IS_BETTER = (TIME,)


def check_objectives(names: Sequence[str]) -> None:
    """InputError: a name is no objective, or none of them says how good a model is."""
    if not names:
        raise InputError("objective must name a metric, e.g. val/auroc")
    for name in names:
        if name == "val/loss":
            raise InputError(
                "objective=val/loss: losses of different kinds cannot be compared; try val/auroc"
            )
        if name not in (*OBJECTIVES, TIME):
            raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, got {name!r}")
    if names[0] == TIME:
        raise InputError(f"objective={TIME}: the fastest model learns nothing; put a val/ metric first")


def direction(name: str) -> Direction:
    return "minimize" if name in LOWER_IS_BETTER else "maximize"


def logged_name(name: str) -> str:
    """The MLflow metric of an objective, at the best epoch: best/val_auroc for val/auroc."""
    return name if name == TIME else f"best/{name.replace('/', '_')}"
