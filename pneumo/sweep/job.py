"""What a Hydra job does: one training run, as a trial of a study or, under another sweeper, alone."""

import gc
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, open_dict

from pneumo.display.console import Terminal
from pneumo.errors import AwayError, InputError, PeerError, SupersededError
from pneumo.runs import checkpoint, config, query, search_path, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.experiment import Experiment
from pneumo.runs.planner import planned
from pneumo.runs.run import run
from pneumo.runs.tracking import MlflowError
from pneumo.sweep.database import retry
from pneumo.sweep.heartbeat import heartbeats
from pneumo.sweep.processes import run_in_processes
from pneumo.sweep.settings import StudySettings, load_settings
from pneumo.sweep.trial import TrialCallback, TrialResult

RUN_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def job(composed: DictConfig) -> float | list[float] | None:
    """The objective, a list if there are several; None if the trial was pruned or failed. InputError: under
    another sweeper, as `run`."""
    settings = load_settings(composed, HydraConfig.get().sweeper)
    if settings.processes == 1:
        values = objectives(composed, settings)
    else:
        with open_dict(composed):
            whole = composed.copy()
            whole.hydra = HydraConfig.get()
        returned = run_in_processes(settings.processes, objectives_in_process, whole)
        if isinstance(returned, InputError):
            raise returned
        values = returned
    return values[0] if values is not None and len(values) == 1 else values


def objectives_in_process(whole: DictConfig) -> list[float] | InputError | None:
    """`objectives` in a new process, one of several on the same training; `whole` has Hydra's own
    configuration as well. What the first one raises as an InputError it returns; the others have neither a
    trial nor a result."""
    setup_globals()
    search_path.register()
    HydraConfig.instance().set_config(whole)
    composed = config.without_hydra(whole)
    if os.environ["RANK"] == "0":
        try:
            return objectives(composed, load_settings(composed, HydraConfig.get().sweeper))
        except InputError as error:
            return error
    with suppress(PeerError):  # the first has ended
        run(planned_experiment(composed), output_dir())
    return None


def objectives(composed: DictConfig, settings: StudySettings) -> list[float] | None:
    """The objectives of a job's configuration; None if the trial was pruned or failed. InputError: as
    `job`."""
    if settings.trial is None:
        return settings.select_objectives(run(planned_experiment(composed), output_dir()))
    result = run_trial(settings, settings.trial, composed)
    return None if result is None else result.values


def output_dir() -> Path:
    return Path(HydraConfig.get().runtime.output_dir)


def planned_experiment(composed: DictConfig) -> Experiment:
    """The experiment of a job's configuration, which stays as it is."""
    return planned(composed.copy(), HydraConfig.get().overrides.task, Terminal(quiet=True))


def run_trial(settings: StudySettings, number: int, composed: DictConfig) -> TrialResult | None:
    """Trains as the trial of that number and stores its result in the study; None if another process has
    taken the trial over. AwayError: the study's storage or MLflow cannot be reached."""
    storage = retry(settings.open_storage, 60 * settings.storage_minutes)
    tags = {"search": HydraConfig.get().runtime.choices.get("search", "own")}

    def train(callback: RunCallback) -> dict[str, float]:
        experiment = planned_experiment(composed)
        trial.tell_epochs(experiment.fit.epochs)
        return run(resumed(experiment, callback.run_id), output_dir(), callback)

    try:
        trial = storage.with_retries(lambda: TrialCallback(storage, number, settings.objective[0], tags))
        with heartbeats(storage, [number]):
            trial.take_over(tracking.process_mark(os.getpid()))
            try:
                result = trial.run(train, settings.select_objectives)
            except KeyboardInterrupt:
                stopped = TrialResult("FAIL", kind="stopped", reason="interrupted")
                if trial.tell(stopped, output_dir()) and trial.run_id:
                    with suppress(MlflowError), tracking.short_timeouts():
                        tracking.tag_run(trial.run_id, state="stopped")
                raise
            except (AwayError, MlflowError) as error:
                away = error if isinstance(error, AwayError) else tracking.unreachable(error)
                trial.tell(TrialResult("FAIL", kind="stopped", reason=str(away)), output_dir())
                raise away from None
            if not trial.tell(result, output_dir()):
                return None
    except SupersededError:
        return None
    finally:
        free_gpu_memory()
    if trial.run_id:
        run_tags = {"state": RUN_STATES[result.state]}
        if result.kind not in ("", "pruned"):
            run_tags["failure"] = f"{result.kind}: {result.reason}"[:500]
        tracking.tag_run(trial.run_id, **run_tags)
    return result


def resumed(experiment: Experiment, run_id: str | None) -> Experiment:
    """The experiment, to be resumed from the last checkpoint of an attempt that died, if that left one, no
    other run has overwritten it and MLflow still has the run."""
    known = tracking.known_run(run_id)
    path = query.find_checkpoint(query.find_run(known), checkpoint.LAST) if known else None
    if path and checkpoint.read(path)["run_id"] == run_id:
        return replace(experiment, resume=run_id)
    return experiment


def free_gpu_memory() -> None:
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
