"""The settings of a study, from conf/sweep.yaml and the command line, checked."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler

from pneumo.display.address import STORAGE, refuse_passwords
from pneumo.errors import InputError, one_line
from pneumo.runs import setting_names
from pneumo.runs.config import refusal
from pneumo.runs.overrides import override_key
from pneumo.runs.setting_names import STUDY
from pneumo.sweep.database import HEARTBEAT_SECONDS, check_address
from pneumo.sweep.design.rates import RatePruner
from pneumo.sweep.objective import OBJECTIVES, Direction, check_objectives, logged_name
from pneumo.sweep.pools.base import Pool
from pneumo.sweep.search_space import split_overrides
from pneumo.sweep.storage import StudyStorage, open_study
from pneumo.sweep.workers import AUTO

OPEN_STORAGES: dict[str, StudyStorage] = {}
HEARTBEAT = "hydra.sweeper.heartbeat_seconds"
OF_SWEEPER = ("sampler", "params", "heartbeat_seconds", "storage_minutes")  # what hydra.sweeper has
OF_STOCK_SWEEPER = {  # settings of Hydra's own Optuna sweeper -> what is written for a study
    "n_trials": "n_trials={}",
    "n_jobs": "workers={}",
    "direction": "objective=METRIC, which has its direction",
    "study_name": "study={}",
    "storage": "storage={}",
    "max_failure_rate": "max_failure_rate={}",
}
SEARCH = ("enqueue", "conditional", "design", "exists_where")  # the settings of conf/search
POOLS = ("pneumo.sweep.pools.*",)
SAMPLERS = ("optuna.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*")


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    study: str
    objective: list[str]
    n_trials: int | None
    hours: int | float | None
    patience: int | None
    storage: str | None
    pool: Mapping[str, Any]
    workers: int | str
    jobs: int
    retries: int
    max_failure_rate: float
    dry_run: bool
    trial: int | None
    search: Mapping[str, Any]  # conf/search
    pruner: Mapping[str, Any]
    sampler: Mapping[str, Any]
    heartbeat_seconds: int = HEARTBEAT_SECONDS  # Hydra's own Optuna sweeper does not have these two
    storage_minutes: int | float = 10

    def __post_init__(self) -> None:
        for name in ("pool", "search", "pruner", "sampler"):
            if not isinstance(value := getattr(self, name), Mapping):
                raise InputError(f"{name} must hold settings, got {value!r}")
        setting_names.check(self.search, SEARCH, required=SEARCH, group="search")
        at_least = (("n_trials", 1), ("patience", 1), ("jobs", 1), ("retries", 0), ("heartbeat_seconds", 1))
        for name, least in at_least:
            if (value := getattr(self, name)) is not None and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if self.workers != AUTO and not (isinstance(self.workers, int) and self.workers >= 1):
            raise InputError(f"workers must be auto, or at least 1, got {self.workers!r}")
        if not 0 <= self.max_failure_rate <= 1:
            raise InputError(f"max_failure_rate must be from 0 to 1, got {self.max_failure_rate}")
        if self.hours is not None and not self.hours > 0:
            raise InputError(f"hours must be above 0, got {self.hours}")
        if not 0 <= self.storage_minutes < math.inf:
            raise InputError(f"storage_minutes must be a number of at least 0, got {self.storage_minutes}")
        check_objectives(self.objective)
        if self.patience is not None and (self.is_design or len(self.objective) > 1):
            what = "a design has" if self.is_design else "several objectives have"
            raise InputError(
                f"patience={self.patience}: {what} no best trial to wait for; leave patience out"
            )
        refuse_passwords([f"storage={self.storage}"])

    @property
    def is_design(self) -> bool:
        return self.search["design"] is not None

    @property
    def processes(self) -> int:
        """Of each trial."""
        return self.make_pool().processes

    @property
    def directions(self) -> list[Direction]:
        return [OBJECTIVES[name] for name in self.objective]

    @property
    def url(self) -> str:
        return self.storage or os.environ.get(STORAGE) or f"sqlite:///{Path.cwd() / 'study.db'}"

    def select_objectives(self, metrics: Mapping[str, float]) -> list[float]:
        """The values of the objectives among a run's metrics."""
        return [metrics[logged_name(name)] for name in self.objective]

    def open_storage(self) -> StudyStorage:
        """The study's storage. All trials of a process share one, which caches the trials that have ended."""
        key = f"{os.getpid()}: {self.url}: {replace(self, trial=None)}"
        if key not in OPEN_STORAGES:
            close_storages()
            limits = (self.heartbeat_seconds, self.retries, 60 * self.storage_minutes)
            of_study = (self.study, self.directions, self.make_pruner())
            OPEN_STORAGES[key] = open_study(self.url, *of_study, *limits)
        return OPEN_STORAGES[key]

    def make_pruner(self) -> BasePruner:
        """One that never prunes if there are several objectives, which Optuna cannot prune; of a design, one
        that stops poor learning rates alone, as the runs that it judges by must be whole."""
        if len(self.objective) > 1:
            return NopPruner()
        if self.is_design:
            return RatePruner()
        pruner = instantiate_trusted("pruner", self.pruner, ("optuna.pruners.*",))
        if not isinstance(pruner, BasePruner):
            raise InputError(f"pruner._target_ must name a pruner, got {self.pruner['_target_']!r}")
        return pruner

    def make_pool(self) -> Pool:
        """InputError: its settings are not valid."""
        pool = instantiate_trusted("pool", self.pool, POOLS)
        if not isinstance(pool, Pool):
            raise InputError(f"pool._target_ must name a pool, got {self.pool['_target_']!r}")
        return pool

    def make_sampler(self, n_existing: int) -> BaseSampler:
        """Seeded by its own seed and the number of trials in the study, so that a continued study does not
        repeat itself. A quasi-random sequence keeps its seed, as it continues by itself."""
        settings = dict(self.sampler)
        if (seed := settings.get("seed")) is not None and "QMC" not in str(settings.get("_target_")):
            if type(seed) is not int:
                raise InputError(f"hydra.sweeper.sampler.seed must be a whole number or null, got {seed!r}")
            settings["seed"] = (seed * 1_000_003 + n_existing) % 2**32  # NumPy's limit
        sampler = instantiate_trusted("hydra/sweeper/sampler", settings, SAMPLERS)
        if isinstance(sampler, partial):
            target = settings["_target_"]
            raise InputError(
                f"hydra.sweeper.sampler._target_={target} cannot be used with a study of pneumo, as Hydra "
                "leaves it incomplete (_partial_); take another, such as hydra/sweeper/sampler=random"
            )
        if not isinstance(sampler, BaseSampler):
            raise InputError(
                f"hydra.sweeper.sampler._target_ must name a sampler, got {settings['_target_']!r}"
            )
        assert not isinstance(sampler, QMCSampler) or settings.get("seed") == seed
        return sampler


def close_storages() -> None:
    """Closes what `open_storage` has opened: another study may lie in a file of the same name by now."""
    for storage in OPEN_STORAGES.values():
        storage.close()
    OPEN_STORAGES.clear()


def instantiate_trusted(group: str, settings: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    """The object of a `_target_` that matches one of the patterns. InputError: it does not, there is none, or
    it refuses its settings."""
    if "_target_" not in settings:
        raise InputError(f"{group}._target_ must be given: {group}._target_=...")
    try:
        return instantiate(dict(settings), _convert_="all", _execution_whitelist_=trusted)
    except Exception as error:  # whatever a class raises that is given values of the wrong kind
        raise InputError(refusal(group, error)) from error


def load_command(config: DictConfig, arguments: Sequence[str]) -> StudySettings:
    """The settings of a sweep command. InputError: anything about it that can be told before torch and MLflow
    are imported."""
    searched, _ = split_overrides(arguments)
    for line in searched:
        if override_key(line).split(".")[0] in STUDY:
            raise InputError(f"{line}: one study has one {override_key(line)}; use one command for each")
    refuse_stock_settings(config.hydra.overrides.hydra)
    settings = load_settings(config, config.hydra.sweeper)
    if settings.is_design and settings.n_trials and "n_trials" in map(override_key, arguments):
        raise InputError(
            f"n_trials={settings.n_trials}: a design has the trials of its arms and seeds; leave n_trials out"
        )
    settings.make_pool().check_workers(settings.workers if isinstance(settings.workers, int) else 1)
    check_address(settings.url)
    return settings


def refuse_stock_settings(words: Iterable[str]) -> None:
    """InputError: one of the command's words for Hydra sets what a study does not read."""
    for word in words:
        key, name = override_key(word), override_key(word).removeprefix("hydra.sweeper.").split(".")[0]
        if not key.startswith("hydra.sweeper.") or name in (*OF_SWEEPER, "_target_"):
            continue
        if name not in OF_STOCK_SWEEPER:
            raise InputError(
                f"{key} is no setting of a study, which reads hydra.sweeper.{', '.join(OF_SWEEPER)}"
            )
        own = OF_STOCK_SWEEPER[name].format(word.partition("=")[2])
        raise InputError(f"{key} is a setting of Hydra's own Optuna sweeper: write {own}")


def load_settings(config: DictConfig, sweeper_config: DictConfig) -> StudySettings:
    """Of a configuration and of Hydra's node `hydra.sweeper`. InputError: a value is of the wrong type or out
    of its range."""
    try:
        values: dict[str, Any] = {
            name: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for name in STUDY
            for node in [config[name]]
        }
        sweeper: Any = OmegaConf.to_container(sweeper_config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(one_line(str(error).splitlines()[0])) from None
    if isinstance(values["objective"], str):
        values["objective"] = [values["objective"]]
    names = ("sampler", "heartbeat_seconds", "storage_minutes")
    values |= {name: sweeper[name] for name in names if name in sweeper}
    setting_names.check_kinds("study", StudySettings, values)
    return StudySettings(**values)
