"""Trials as Hydra jobs: launches those that were claimed, and fails those that ended without a result."""

import atexit
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import Trial, TrialState

from pneumo.errors import InputError
from pneumo.sweep.database import first_line
from pneumo.sweep.heartbeat import heartbeats
from pneumo.sweep.private_api import job_error
from pneumo.sweep.storage import StudyStorage

POLL_SECONDS = 2


@dataclass(frozen=True)
class Job:
    """A trial as a Hydra job: the overrides that it is composed from, and its configuration."""

    trial: Trial
    overrides: list[str]
    composed: DictConfig


class TrialLauncher:
    """Runs trials through the launcher that `hydra/launcher` chooses."""

    def __init__(
        self, storage: StudyStorage, context: HydraContext, task: TaskFunction, composed: DictConfig
    ):
        self._storage = storage
        launcher = composed.hydra.runtime.choices["hydra/launcher"]
        self._trains_here = launcher == "basic"  # else jobs may go on after `launch`
        self._loader = JobLoader(context.config_loader)
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=replace(context, config_loader=cast(ConfigLoader, self._loader)),
            task_function=task,
            config=composed,
        )
        self._has_launched = False

    def launch(self, jobs: Sequence[Job], on_end: Callable[[int], None]) -> None:
        """Returns when all the trials have ended; calls `on_end` with the number of each. InputError: the
        launcher does not work, or the study's storage or MLflow cannot be reached, so that no other trial
        would end better."""
        storage, numbers = self._storage, [job.trial.number for job in jobs]
        returns: Sequence[JobReturn | None] = [None] * len(jobs)
        reason = "its job ended without a result"
        try:
            with heartbeats(storage, numbers, storage.is_handed_over):
                self._loader.composed = {tuple(job.overrides): job.composed for job in jobs}
                overrides = [job.overrides for job in jobs]
                returns = self._launcher.launch(overrides, initial_job_idx=numbers[0])
        except KeyboardInterrupt:
            for number in numbers:
                if self._trains_here or not storage.is_handed_over(number):
                    storage.fail_trial(number, "stopped", "interrupted")
            raise
        except (HydraException, OmegaConfBaseException, RuntimeError, ValueError, OSError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            if not self._has_launched and not any(map(storage.is_handed_over, numbers)):
                for number in numbers:
                    storage.fail_trial(number, "stopped", reason)
                raise InputError(f"hydra/launcher: {first_line(error)}") from error
            if len(numbers) > 1:
                self._wait_for_the_others(numbers)
        if not self._has_launched:
            freeze_imported_objects()
        self._has_launched = True
        for number, returned in zip(numbers, returns, strict=True):
            raised = job_error(returned) if returned else None
            if isinstance(raised, InputError):
                raise raised
            crash = partial(storage.fail_trial, number, "crash", str(raised or reason))
            storage.with_retries(crash)  # changes nothing if the job stored a result
            on_end(number)

    def _wait_for_the_others(self, numbers: Sequence[int]) -> None:
        """A launcher returns as soon as one of its jobs dies, and does not tell which. The heartbeats tell
        which others are still running."""
        while self._storage.with_retries(lambda: self._any_runs(numbers)):
            time.sleep(POLL_SECONDS)

    def _any_runs(self, numbers: Sequence[int]) -> bool:
        with self._storage.lock():
            self._storage.fail_stale_trials()
        running = {trial.number for trial in self._storage.trials(TrialState.RUNNING)}
        return any(number in running and self._storage.is_handed_over(number) for number in numbers)


class JobLoader:
    """Hydra's loader of configurations, which does not compose again what is `composed` already, by its
    overrides: composing takes as long as all else that Hydra does for a job."""

    def __init__(self, loader: ConfigLoader):
        self._loader = loader
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        if (ready := self.composed.pop(tuple(sweep_overrides), None)) is not None:
            return ready
        return self._loader.load_sweep_config(master_config, sweep_overrides)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of a copy that is just being unpickled
            raise AttributeError(name)
        return getattr(self._loader, name)


def freeze_imported_objects() -> None:
    """Spares the garbage collector the 700,000 objects or so that exist once a first trial has imported
    all."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # libraries warn of objects that are never collected
