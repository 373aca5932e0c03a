"""The sweeper that Hydra knows as `hydra/sweeper: pneumo`. Every Hydra program imports this: it is light."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="pneumo",
    provider="pneumo",
    replace=True,
    node={
        "_target_": "pneumo.sweep.plugin.StudySweeper",
        "defaults": [{"sampler": "tpe_multivariate"}],
        "params": {},
        "heartbeat_seconds": 10,  # of a trial's process; a trial is given up after three missed ones
        "storage_minutes": 10,  # a storage that is away is waited for so long
        "direction": None,  # these three are the stock sweeper's: the objective says the first, the
        "n_trials": None,  # top level has the second and, as `jobs`, the third
        "n_jobs": None,
    },
)
ConfigStore.instance().store(
    group="hydra/sweeper/sampler",
    name="tpe_multivariate",
    provider="pneumo",
    replace=True,
    node={
        "_target_": "optuna.samplers.TPESampler",
        "multivariate": True,
        "group": True,  # parameters that exist only under a condition are sampled with those they go with
        "constant_liar": True,  # trials under way elsewhere are kept away from
        "n_startup_trials": 10,
        "seed": 0,
    },
)


class StudySweeper(Sweeper):
    """Carries a study on to its number of trials, through any launcher."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._hydra = (hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        from pneumo.sweep.controller import carry_on  # Optuna and torch take seconds to import

        carry_on(*self._hydra, arguments)
