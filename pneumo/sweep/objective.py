"""What a study can optimize: metrics of the validation split at the best epoch, and the training time."""

from collections.abc import Sequence
from typing import Literal

from pneumo.errors import InputError

Direction = Literal["minimize", "maximize"]
TIME = "fit_seconds"
OBJECTIVES: dict[str, Direction] = {
    "val/auroc": "maximize",
    "val/auprc": "maximize",
    "val/sensitivity_at_90_specificity": "maximize",
    "val/sensitivity_at_95_specificity": "maximize",
    "val/accuracy": "maximize",
    "val/precision": "maximize",
    "val/recall": "maximize",
    "val/specificity": "maximize",
    "val/f1": "maximize",
    "val/hard_auroc": "maximize",
    TIME: "minimize",
}
EASY = {  # metrics at one threshold, and how a model that has learned nothing comes to 1.0
    "val/specificity": "a model that calls nothing a pneumothorax reaches 1.0",
    "val/recall": "a model that calls everything a pneumothorax reaches 1.0",
    "val/precision": "a model that finds a single pneumothorax and no more reaches 1.0",
}


def check_objectives(names: Sequence[str]) -> None:
    """InputError: a name is no objective, or none of them says how good a model is."""
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"objective must name a metric, e.g. val/auroc, or a list of some, got {names!r}")
    for name in names:
        if name == "val/loss":
            raise InputError(
                "objective=val/loss: losses of different kinds cannot be compared; try val/auroc"
            )
        if name not in OBJECTIVES:
            raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, got {name!r}")
    if names[0] == TIME:
        raise InputError(f"objective={TIME}: the fastest model learns nothing; put a val/ metric first")
    if len(set(names) - {TIME}) == 1 and (reason := EASY.get(names[0])):
        better = "val/sensitivity_at_90_specificity or val/auroc"
        raise InputError(f"objective={names[0]}: {reason}; try {better}, or add one of them to it")


def logged_name(name: str) -> str:
    """The MLflow metric of an objective, at the best epoch: best/val_auroc for val/auroc."""
    return name if name == TIME else f"best/{name.replace('/', '_')}"
