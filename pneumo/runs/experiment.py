"""The configuration of one training run as plain objects: six components and a few settings."""

from dataclasses import dataclass
from typing import Any

from pneumo.components.augment import Augment
from pneumo.components.losses import Loss
from pneumo.components.models import ModelConfig
from pneumo.components.optimizers import OptimizerConfig
from pneumo.components.schedules import Schedule
from pneumo.data.sources.base import Source
from pneumo.runs import identity
from pneumo.training.settings import TrainerSettings

Parameter = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run; see conf/ for the meaning of each setting."""

    data: Source
    augment: Augment
    model: ModelConfig
    optimizer: OptimizerConfig
    loss: Loss
    schedule: Schedule
    fit: TrainerSettings
    seed: int
    tta: str
    resume: str | None
    mlflow_experiment: str
    run_name: str | None
    also: tuple[str, ...] = ()  # further loggers, beside MLflow
    choices: dict[str, str]  # config group -> chosen name
    overrides: list[str]  # as given on the command line
    parameters: dict[str, Parameter]  # the whole configuration, by dotted name
    yaml: str  # the same, as YAML
    plan: str = ""  # with experiment=auto: the planned experiment as a file of conf/experiment

    @property
    def identity(self) -> dict[str, Any]:
        """The parameters that affect the weights: if they and the images are equal, so are the weights."""
        return identity.configuration(self.parameters)
