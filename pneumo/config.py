"""The door: a composed configuration becomes an Experiment, and nothing behind it sees a DictConfig."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pneumo.errors import InputError

if TYPE_CHECKING:
    from pneumo.experiment import Experiment, Parameter

GROUPS = ("data", "augment", "model", "optimizer", "loss", "schedule")
OURS = [
    f"pneumo.{room}.*" for room in ("data.sources", "augment", "models", "optimizers", "losses", "schedules")
]


def trusted() -> list[str]:
    """What a configuration may name as a `_target_`: our components, and what PNEUMO_TRUST adds to them
    (names like mypkg.losses.Mine or mypkg.*, separated by commas)."""
    added = os.environ.get("PNEUMO_TRUST", "")
    return OURS + [name.strip() for name in added.split(",") if name.strip()]


def load(config: DictConfig) -> "Experiment":
    """InputError: a value is missing, of the wrong kind, or out of its range."""
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key or "a value"
        raise InputError(f"{name} must be given: {name}=...") from None
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None

    from pneumo.experiment import Experiment
    from pneumo.fit import FitSettings

    if not isinstance(plain["seed"], int) or plain["seed"] < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {plain['seed']!r}")
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return Experiment(
        **{group: built(group, plain[group]) for group in GROUPS},
        fit=FitSettings(**plain["fit"]),
        seed=plain["seed"],
        tta=plain["tta"],
        resume=plain["resume"],
        mlflow_experiment=plain["tracking"]["experiment"],
        run_name=plain["tracking"]["name"],
        choices={group: str(chosen.get(group) or kind(plain[group])) for group in GROUPS},
        overrides=list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [],
        parameters=dict(flat(plain)),
        yaml=OmegaConf.to_yaml(config, resolve=True),
    )


def built(group: str, settings: Mapping[str, Any]) -> Any:
    """The component of a group."""
    try:
        return instantiate(dict(settings), _convert_="all", _execution_whitelist_=trusted())
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"{group}: {' '.join(str(error.__cause__ or error).split())}") from error


def kind(settings: Mapping[str, Any]) -> str:
    return str(settings.get("_target_", "?")).rsplit(".", 1)[-1].lower()


def flat(node: Mapping[str, Any], prefix: str = "") -> "list[tuple[str, Parameter]]":
    """Nested settings as (dotted name, value); lists as text."""
    pairs: list[tuple[str, Parameter]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + str(key), str(value) if isinstance(value, list) else value))
    return pairs
