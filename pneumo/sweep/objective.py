"""What a job does: one run, as a trial of a study or, under another sweeper, alone."""

import gc
import os
from dataclasses import replace
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from pneumo.errors import AwayError, SupersededError
from pneumo.runs import checkpoint, config, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.experiment import Experiment
from pneumo.runs.run import run
from pneumo.runs.tracking import MlflowError
from pneumo.sweep.heartbeat import beating
from pneumo.sweep.settings import StudySettings, settings_of
from pneumo.sweep.storage import with_retries
from pneumo.sweep.trial import Outcome, TrialCallback

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def job(composed: DictConfig) -> float | list[float] | None:
    """The objectives; None where the trial came to none. InputError: under another sweeper, as `run`."""
    hydra = HydraConfig.get()
    with open_dict(composed):
        whole = composed.copy()
        whole.hydra = hydra
    settings = settings_of(whole)
    output_dir = Path(hydra.runtime.output_dir)
    if settings.trial is None:
        values = settings.values(run(config.load(composed), output_dir))
    else:
        outcome = answer(settings, settings.trial, composed, output_dir)
        if outcome is None or outcome.values is None:
            return None
        values = outcome.values
    return values[0] if len(values) == 1 else values


def answer(settings: StudySettings, number: int, composed: DictConfig, output_dir: Path) -> Outcome | None:
    """Carries a trial out and tells the study; None where it is not ours any more."""
    ledger = with_retries(settings.ledger, 60 * settings.storage_minutes)
    tags = {"search": HydraConfig.get().runtime.choices.get("search", "own")}
    try:
        trial = ledger.steadily(lambda: TrialCallback(ledger, number, settings.objective[0], tags))
        with beating(ledger, [trial.trial_id]):
            trial.takes_over(tracking.process_mark(os.getpid()))
            try:
                outcome = trial.carry_out(
                    lambda callback: carried(composed, output_dir, callback), settings.values
                )
            except KeyboardInterrupt:
                stopped = Outcome("FAIL", kind="stopped", reason="told to stop")
                if trial.tell(stopped, output_dir) and trial.run_id:
                    tracking.tag_run(trial.run_id, state="stopped")
                raise
            except (AwayError, MlflowError) as error:
                gone = error if isinstance(error, AwayError) else tracking.away(error)
                trial.tell(Outcome("FAIL", kind="stopped", reason=str(gone)), output_dir)
                raise gone from None
            if not trial.tell(outcome, output_dir):
                return None
    except SupersededError:
        return None
    finally:
        forget()
    if trial.run_id:
        tracking.tag_run(trial.run_id, state=STATES[outcome.state], **named(outcome))
    return outcome


def carried(composed: DictConfig, output_dir: Path, callback: RunCallback) -> dict[str, float]:
    experiment = continued(config.load(composed), callback.run_id)
    return run(experiment, output_dir, callback)


def continued(experiment: Experiment, run_id: str | None) -> Experiment:
    """From the last checkpoint of an attempt that died, if it left one and no other run has written over
    it."""
    path = query.checkpoint_of(query.find_run(run_id), checkpoint.LAST) if run_id else None
    if path and checkpoint.read(path)["run_id"] == run_id:
        return replace(experiment, resume=run_id)
    return experiment


def named(outcome: Outcome) -> dict[str, str]:
    return (
        {"failure": f"{outcome.kind}: {outcome.reason}"[:500]} if outcome.kind not in ("", "pruned") else {}
    )


def forget() -> None:
    """What a run leaves on a GPU; the processor's memory looks after itself."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
