"""What a study is told, checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler

from pneumo.display.address import STORAGE, refuse_passwords
from pneumo.errors import InputError
from pneumo.evaluation.metrics import compute_metrics
from pneumo.runs.config import STUDY, check_kinds
from pneumo.sweep.storage import StudyStorage, open_study

OBJECTIVES = [f"val/{name}" for name in compute_metrics(np.array([0, 1]), np.array([0.0, 1.0]))]
Direction = Literal["minimize", "maximize"]
LEDGERS: dict[str, StudyStorage] = {}
SAMPLERS = ("optuna.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*")


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    study: str
    objective: list[str]
    n_trials: int | None
    hours: int | float | None
    patience: int | None
    storage: str | None
    workers: int
    jobs: int
    retries: int
    max_failure_rate: float
    dry_run: bool
    trial: int | None
    search: Mapping[str, Any]
    pruner: Mapping[str, Any]
    sampler: Mapping[str, Any]
    heartbeat_seconds: int = 10  # these two are our sweeper's; the stock one has none
    storage_minutes: int | float = 10

    def __post_init__(self) -> None:
        for name, least in (("n_trials", 1), ("patience", 1), ("workers", 1), ("jobs", 1), ("retries", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if not 0 <= self.max_failure_rate <= 1:
            raise InputError(f"max_failure_rate must be from 0 to 1, got {self.max_failure_rate}")
        if self.hours is not None and not self.hours > 0:
            raise InputError(f"hours must be above 0, got {self.hours}")
        if not self.objective:
            raise InputError("objective must name a figure, e.g. val/auroc")
        for name in self.objective:
            if name == "val/loss":
                raise InputError(
                    "objective=val/loss: losses of different kinds cannot be compared; try val/auroc"
                )
            if name not in (*OBJECTIVES, "fit_seconds"):
                raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, got {name!r}")
        if self.objective[0] == "fit_seconds":
            raise InputError(
                "objective=fit_seconds: what is quickest learns nothing; name a val/ figure first"
            )
        refuse_passwords([f"storage={self.storage}"])

    @property
    def directions(self) -> list[Direction]:
        return ["minimize" if name == "fit_seconds" else "maximize" for name in self.objective]

    @property
    def url(self) -> str:
        return self.storage or os.environ.get(STORAGE) or f"sqlite:///{Path.cwd() / 'study.db'}"

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """The objectives, from a run's findings."""
        return [metrics[objective_name(name)] for name in self.objective]

    def ledger(self) -> StudyStorage:
        """One for all trials of a process: it remembers those that have ended, however many they are."""
        key = f"{os.getpid()}: {self.url}: {replace(self, trial=None)}"
        if key not in LEDGERS:
            begin_afresh()
            LEDGERS[key] = open_study(
                self.url,
                self.study,
                self.directions,
                self.chosen_pruner(),
                self.heartbeat_seconds,
                self.retries,
                60 * self.storage_minutes,
            )
        return LEDGERS[key]

    def chosen_pruner(self) -> BasePruner:
        """None where there are several objectives, which Optuna cannot prune, and in a design, which needs
        every run whole."""
        if len(self.objective) > 1 or self.search["design"] is not None:
            return NopPruner()
        pruner: BasePruner = made("pruner", self.pruner, ("optuna.pruners.*",))
        return pruner

    def chosen_sampler(self, trials_there: int) -> BaseSampler:
        """Seeded by its own seed and by how many trials there are, so that a study that is gone on with
        does not repeat itself. A quasi-random sequence keeps its seed: it knows by itself where it stands."""
        settings = dict(self.sampler)
        if (seed := settings.get("seed")) is not None and "QMC" not in settings["_target_"]:
            settings["seed"] = int(seed) * 1_000_003 + trials_there
        sampler: BaseSampler = made("hydra/sweeper/sampler", settings, SAMPLERS)
        assert not isinstance(sampler, QMCSampler) or settings["seed"] == seed
        return sampler


def begin_afresh() -> None:
    """Without ledgers of before: a file of that name may hold another study by now."""
    for ledger in LEDGERS.values():
        ledger.close()
    LEDGERS.clear()


def objective_name(name: str) -> str:
    """best/val_auroc of val/auroc: where the best epoch's figure is logged"""
    return name if name == "fit_seconds" else f"best/{name.replace('/', '_')}"


def made(group: str, settings: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    try:
        return instantiate(dict(settings), _convert_="all", _execution_whitelist_=trusted)
    except (InstantiationException, ImportError, TypeError, ValueError) as error:
        raise InputError(f"{group}: {' '.join(str(error).split())}") from error


def settings_of(config: DictConfig) -> StudySettings:
    """InputError: a value is of the wrong kind or out of its range."""
    try:
        told: dict[str, Any] = {
            name: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for name in STUDY
            for node in [config[name]]
        }
        sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    told["objective"] = [told["objective"]] if isinstance(told["objective"], str) else told["objective"]
    ours = ("sampler", "heartbeat_seconds", "storage_minutes")
    told |= {name: sweeper[name] for name in ours if name in sweeper}
    check_kinds("study", StudySettings, told)
    return StudySettings(**told)
