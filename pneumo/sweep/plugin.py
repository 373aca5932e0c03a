"""The sweeper `hydra/sweeper: pneumo`, with its defaults. Every Hydra program imports this file, which is
why it imports neither Optuna nor torch."""

import sys
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
        "heartbeat_seconds": 10,  # after three missing heartbeats a trial's process is taken for dead
        "storage_minutes": 10,  # how long a storage that cannot be reached is waited for
        "direction": None,  # these three are for Hydra's own Optuna sweeper: here `objective` sets the
        "n_trials": None,  # first, and the top level of the configuration has the second and third, as
        "n_jobs": None,  # `n_trials` and `jobs`
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
        "constant_liar": True,  # keeps away from the parameters of running trials
        "n_startup_trials": 10,
        "seed": 0,
    },
)


class StudySweeper(Sweeper):
    """Begins or continues a study, through any launcher."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._hydra = (hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        from pneumo.display.address import hidden
        from pneumo.errors import InputError
        from pneumo.sweep.search import build_search
        from pneumo.sweep.settings import load_command

        context, task, config = self._hydra
        try:
            settings = load_command(config, arguments)
            search = build_search(settings, config, arguments)
        except InputError as error:
            sys.exit(hidden(f"\n{error}"))

        from pneumo.sweep.controller import run_study  # torch and MLflow take seconds to import

        run_study(context, task, config, settings, search)
