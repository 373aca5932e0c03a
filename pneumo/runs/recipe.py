"""A recipe: the YAML of a choice of `experiment=`, to and from an Experiment."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from pneumo.runs.config import compose_train, flatten, load
from pneumo.runs.identity import ADDED, COLUMNS, PLACES

if TYPE_CHECKING:
    from pneumo.runs.experiment import Experiment


def to_recipe(experiment: "Experiment", comments: Iterable[str] = ()) -> str:
    """The YAML of a choice of `experiment=` that composes to this experiment, apart from its seed and
    what does not affect the weights. InputError: one of its choices does not exist."""
    choices = [f"{group}={choice}" for group, choice in experiment.choices.items()]
    composed, wanted = compose_train(choices), OmegaConf.create(experiment.yaml)
    for name, value in ADDED.items():
        if OmegaConf.select(wanted, name) is None and is_in(composed, name):
            OmegaConf.update(wanted, name, value)
    defaults, parameters = (
        dict(flatten(cast(Any, OmegaConf.to_container(settings, resolve=True))))
        for settings in (composed, wanted)
    )
    kept = {*experiment.identity, *ADDED, *PLACES, "tta"} - {"seed"}
    recipe = OmegaConf.create({"defaults": [{f"override /{k}": v} for k, v in experiment.choices.items()]})
    for name, value in parameters.items():
        if (name in kept or name.startswith(COLUMNS)) and (name not in defaults or defaults[name] != value):
            OmegaConf.update(recipe, name, OmegaConf.select(wanted, name))
    header = "".join(f"# {line}\n" for line in ("@package _global_", *comments))
    return header + OmegaConf.to_yaml(recipe)


def from_recipe(text: str, choices: Mapping[str, str]) -> "Experiment":
    """The experiment of a YAML such as those in conf/experiment. InputError: it does not compose."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "experiment" / f"{uuid4().hex}.yaml"
        path.parent.mkdir()
        path.write_text(text)
        composed = compose_train([f"experiment={path.stem}", f"hydra.searchpath=[file://{folder}]"])
        return load(composed, choices)


def is_in(settings: DictConfig, name: str) -> bool:
    """Whether there is a setting of this dotted name, whatever its value."""
    group, _, field = name.rpartition(".")
    return field in settings[group]
