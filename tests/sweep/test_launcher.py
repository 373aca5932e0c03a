"""Trials as jobs of a cluster's launcher, through its executor for one machine."""

import os
import signal

from conftest import ROOT
from hydra import compose, initialize_config_dir
from optuna.trial import TrialState
from test_workers import (
    find_study,
    logged_epochs,
    printed,
    running_trials,
    runs_of_trials,
    started,
    wait_until,
)

from pneumo.sweep.attributes import PROCESS
from pneumo.sweep.folders import folder_of

__all__ = ["started"]  # a fixture
LOCAL = ["hydra/launcher=submitit_local", "jobs=2", "pruner=none"]


def test_a_study_runs_two_jobs_at_a_time(started, workdir, monkeypatch):
    storage = f"sqlite:///{workdir}/told-through-the-environment.db"
    monkeypatch.setenv("PNEUMO_STORAGE", storage)
    assert started(*LOCAL, "n_trials=3", "fit.epochs=2").wait(timeout=300) == 0, printed()

    trials = find_study(storage).trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert len({trial.user_attrs[PROCESS] for trial in trials}) == 3, "a process each"
    of_study = folder_of(find_study(storage).study)
    for trial in trials:
        folder = of_study / str(trial.number)
        assert f"trial={trial.number}" in (folder / ".hydra" / "overrides.yaml").read_text()
        assert (folder / "checkpoints" / "best.pt").exists()
        assert printed().count(f"\n #{trial.number} ") == 1
    pickles = list((of_study / ".submitit").rglob("*"))
    assert len([path for path in pickles if path.suffix == ".pkl"]) == 6, "what was asked and what came of it"
    files = [path for path in pickles if path.is_file()]
    assert not [path for path in files if b"told-through-the-environment" in path.read_bytes()]


def test_a_killed_job_is_retried_and_the_other_one_is_not_disturbed(started):
    sweep = started(*LOCAL, "n_trials=2", "fit.epochs=80")
    storage = wait_until(lambda: find_study("sqlite:///study.db"), sweep)
    both = wait_until(lambda: len(jobs := running_trials(storage, epochs=1)) == 2 and jobs, sweep)
    (killed,) = [pid for pid, number in both.items() if number == 0]
    os.kill(killed, signal.SIGKILL)
    assert sweep.wait(timeout=300) == 0, printed()

    dead, beside, again = storage.trials()
    assert (dead.state, dead.user_attrs["failure"]) == (TrialState.FAIL, "crash")
    assert beside.state == TrialState.COMPLETE
    assert again.state == TrialState.COMPLETE
    assert again.user_attrs["attempts"] == [dead.number]
    assert again.user_attrs["run_id"] == dead.user_attrs["run_id"]
    assert logged_epochs(again) == list(range(1, 81)), "each once: it went on after the last"
    assert [run.info.status for run in runs_of_trials().values()] == ["FINISHED"] * 2


def test_the_preset_for_slurm_composes():
    with initialize_config_dir(str(ROOT / "conf")):
        launcher = compose("sweep", ["hydra/launcher=slurm"], return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith(".SlurmLauncher")
    assert launcher.timeout_min > 60, "a trial is not cut off by the launcher's own default"
    assert launcher.max_num_timeout == 0, "the study queues again, not SLURM"
