"""What to change in a run that has not learned: the settings that `experiment=auto` plans for its data, since
they learn on the data of docs/evidence.md, as overrides to add to its command."""

from collections.abc import Sequence
from typing import cast

from pneumo.data.dataset import Dataset
from pneumo.errors import InputError
from pneumo.runs import config
from pneumo.runs.experiment import Experiment, Parameter
from pneumo.runs.overrides import override_key, written
from pneumo.runs.planner import AUTO, Fingerprint, given_settings, open_decisions

CHOICES = {
    "augment": "flip",
    "loss": "bce",
    "optimizer": "adamw",
    "schedule": "onecycle",
}  # in experiment=auto
SINGLE = (  # parameters of no such group that decide whether anything is learned
    *("model.freeze", "model.mask_head", "model.dropout", "data.image_side_px", "fit.epochs"),
    *("fit.batch_size", "fit.accumulation_steps", "fit.clip_norm", "fit.ema_decay", "fit.positive_share"),
    "fit.mask_weight",
)
AT_LEAST = ("data.image_side_px", "fit.epochs")  # more is as good
WHOLE = ("experiment", "debug")  # choices of many parameters at once


def remedy(experiment: Experiment, dataset: Dataset, rate_too_high: bool = False) -> str:
    """Overrides that give a run the settings of `experiment=auto` if they are added to its command; "" if it
    has them. The network stays. With `rate_too_high`, a learning rate of about the planned one becomes a
    tenth.

    Overrides for which those settings have no place, such as `schedule.factor`, have to be left out of the
    command, which is said behind the overrides. Where the command does not compose with `experiment=auto`,
    because choices of the user's own add settings to it, that alone is returned."""
    try:
        return changes_to_auto(experiment, dataset, rate_too_high)
    except InputError:
        return AUTO


def changes_to_auto(experiment: Experiment, dataset: Dataset, rate_too_high: bool) -> str:
    """The same; InputError where the command does not compose."""
    typed = experiment.overrides
    wanted = parameters([one for one in typed if not decides(one)], dataset)
    now = {name: value for name, value in experiment.parameters.items() if decides(name)}
    given = {override_key(one) for one in typed}
    for name in given.intersection(AT_LEAST):
        wanted[name] = max(cast(int, wanted[name]), cast(int, now[name]))
    lr, planned_lr = experiment.optimizer.lr, cast(float, wanted["optimizer.lr"])
    same_optimizer = now["optimizer._target_"] == wanted["optimizer._target_"]
    if rate_too_high and same_optimizer and planned_lr / 10 <= lr <= planned_lr:
        wanted["optimizer.lr"] = lr / 10
    if now == wanted:
        return ""
    places = {*wanted, *CHOICES, *WHOLE}
    misplaced = [one for one in typed if decides(one) and override_key(one) not in places]
    differ = {name.split(".")[0] for name, value in wanted.items() if now.get(name) != value}
    added = [f"{group}={choice}" for group, choice in CHOICES.items() if group in given & differ]
    after = parameters([*(one for one in typed if one not in misplaced), *added], dataset)
    values = [f"{name}={written(value)}" for name, value in wanted.items() if after[name] != value]
    return " ".join([AUTO, *added, *values, *(["without", *misplaced] if misplaced else [])])


def decides(override: str) -> bool:
    """Whether a parameter, or the one that an override sets, decides whether anything is learned."""
    key = override_key(override)
    return key in (*SINGLE, *WHOLE) or key.split(".")[0] in CHOICES


def parameters(overrides: Sequence[str], dataset: Dataset) -> dict[str, Parameter]:
    """The parameters that decide whether anything is learned, in `experiment=auto` with these overrides."""
    whole = config.compose_train([*overrides, AUTO], with_hydra=True)
    composed = config.without_hydra(whole)
    experiment = config.load(composed, {})
    found = dict(experiment.parameters)
    given = given_settings(composed, whole.hydra.runtime.choices, overrides)
    for decision in open_decisions(Fingerprint.of(dataset, experiment), given):
        found |= decision.settings
    return {name: value for name, value in found.items() if decides(name)}
