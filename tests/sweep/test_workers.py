"""Several processes on one study: real ones, killed for real."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from conftest import ROOT, SMALL
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from postgres import PASSWORD
from sweeps import BEGIN, LR_ALONE

from pneumo.errors import InputError
from pneumo.runs import checkpoint
from pneumo.sweep.attributes import PROCESS
from pneumo.sweep.storage import COUNTED, open_study

SWEEP = [
    *(sys.executable, str(ROOT / "sweep.py"), "-m", "study=s", *SMALL, "model.width=4", *LR_ALONE),
    BEGIN,
    "workers=1",  # the tests start several themselves
    "hydra.sweeper.heartbeat_seconds=2",
]
OUTPUT = "printed.txt"


@pytest.fixture
def started(workdir, tmp_path_factory, monkeypatch):
    """Overrides -> the sweep under way, in a process whose words go to a file; one that is still there in the
    end is killed. All runs share a pixel store."""
    monkeypatch.setenv("PNEUMO_STORES", str(tmp_path_factory.getbasetemp() / "stores"))
    processes = []

    def start(*overrides):
        with Path(OUTPUT).open("a") as file:
            processes.append(subprocess.Popen([*SWEEP, *overrides], stdout=file, stderr=subprocess.STDOUT))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def wait_until(happened, *processes, seconds=120):
    """What `happened` returns, once it is true; processes that must live meanwhile are seen to."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, printed()
        assert all(process.poll() is None for process in processes), printed()
        time.sleep(0.1)
    return found


def printed():
    return Path(OUTPUT).read_text()


def find_study(url):
    """Its storage; None while it is not there."""
    try:
        return open_study(url, "s", directions=None)
    except InputError:
        return None


def running_trials(storage, epochs=0):
    """The numbers of trials that have reported as many epochs, by the processes that hold them."""
    return {
        int(trial.user_attrs[PROCESS].split(":")[1]): trial.number
        for trial in storage.trials(TrialState.RUNNING)
        if PROCESS in trial.user_attrs and (trial.last_step or 0) >= epochs
    }


def runs_of_trials():
    """By their id."""
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return {run.info.run_id: run for run in runs if "trial" in run.data.tags}


def logged_epochs(trial):
    """In the order in which MLflow was told of them."""
    history = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db").get_metric_history(
        trial.user_attrs["run_id"], "val/auroc"
    )
    return [value.step for value in sorted(history, key=lambda value: value.timestamp)]


def finished_once(trials, n_trials):
    """Those that were finished, after checking that each was once and none is left over."""
    finished = [trial for trial in trials if trial.state in COUNTED]
    assert len(finished) == n_trials
    assert {trial.state for trial in trials} <= {*COUNTED, TrialState.FAIL}
    first_attempts = [trial.user_attrs.get("attempts", [trial.number])[0] for trial in finished]
    begun = sorted(trial.number for trial in trials if "attempts" not in trial.user_attrs)
    assert sorted(first_attempts) == begun, [(trial.number, trial.user_attrs) for trial in trials]
    return finished


def test_killed_workers_neither_lose_nor_repeat_a_trial(started, workdir, database, monkeypatch):
    monkeypatch.setenv("PNEUMO_STORAGE", database)
    moments = random.Random(0)
    command = ["n_trials=24", "fit.epochs=4"]
    workers = {process.pid: process for process in (started(*command) for _ in range(4))}
    storage = wait_until(lambda: find_study(database), *workers.values())
    killed = []
    for epochs in moments.sample(range(4), 2):
        held = wait_until(
            lambda epochs=epochs: {p: n for p, n in running_trials(storage, epochs).items() if p in workers},
            *workers.values(),
        )
        pid = moments.choice(sorted(held))
        killed.append(held[pid])
        worker = workers.pop(pid)
        worker.kill()
        worker.wait()
    replacement = started(*command)
    for process in (*workers.values(), replacement):
        assert process.wait(timeout=300) == 0, printed()

    trials = storage.trials()
    finished = finished_once(trials, 24)

    runs = runs_of_trials()
    for trial in finished:
        status = "FINISHED" if trial.state == TrialState.COMPLETE else "KILLED"
        assert runs.pop(trial.user_attrs["run_id"]).info.status == status
    assert not runs  # a killed trial was gone on with in its own
    for number in killed:
        (again,) = [trial for trial in finished if number in trial.user_attrs.get("attempts", [])]
        assert trials[number].user_attrs.get("run_id") in (again.user_attrs["run_id"], None)  # None: not yet

    for secret in (PASSWORD.encode(), quote(PASSWORD, safe="").encode()):
        assert [path for path in workdir.rglob("*") if path.is_file() and secret in path.read_bytes()] == []


def put_to_sleep(process):
    """While it holds neither database nor anybody's turn: those it would take with it."""

    def asleep():
        process.send_signal(signal.SIGSTOP)
        try:
            with FileLock("study.db.lock", timeout=0.2):
                for file in ("study.db", "mlflow.db"):
                    with closing(sqlite3.connect(file, timeout=0.2)) as connection:
                        connection.execute("BEGIN EXCLUSIVE")
            return True
        except (sqlite3.OperationalError, Timeout):
            process.send_signal(signal.SIGCONT)
            return False

    wait_until(asleep, process)


def superseded(started):
    """The storage of a study, a process of it that sleeps, and the one that goes on with its trial."""
    command = ["n_trials=1", "fit.epochs=60", "pruner=none"]
    sleeper = started(*command)
    storage = wait_until(lambda: find_study("sqlite:///study.db"), sleeper)
    wait_until(lambda: running_trials(storage, epochs=2), sleeper)
    put_to_sleep(sleeper)
    (slept,) = storage.trials()
    successor = started(*command)
    wait_until(lambda: successor.pid in running_trials(storage, epochs=slept.last_step + 2), successor)
    return storage, sleeper, successor


@pytest.mark.parametrize("wakes", ["while its successor trains", "after its successor has ended"])
def test_a_suspended_process_leaves_the_run_to_its_successor(started, wakes):
    storage, sleeper, successor = superseded(started)
    if wakes.startswith("after"):
        assert successor.wait(timeout=300) == 0, printed()
    sleeper.send_signal(signal.SIGCONT)
    assert [process.wait(timeout=300) for process in (successor, sleeper)] == [0, 0], printed()

    first, again = storage.trials()
    assert (first.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert again.user_attrs["run_id"] == first.user_attrs["run_id"]
    (run,) = runs_of_trials().values()
    assert run.info.status == "FINISHED"
    assert run.data.tags["state"] == "complete"
    assert "failure" not in run.data.tags
    assert logged_epochs(again) == list(range(1, 61)), "each once"
    last = checkpoint.read(Path(run.data.tags["checkpoints"]) / checkpoint.LAST)
    assert len(last["history"]) == 60
    assert [metrics["val/auroc"] for metrics in last["history"]] == [
        again.intermediate_values[epoch] for epoch in sorted(again.intermediate_values)
    ]


def test_a_suspended_process_that_is_interrupted_does_not_end_the_run_of_its_successor(started):
    storage, sleeper, successor = superseded(started)
    sleeper.send_signal(signal.SIGINT)
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(timeout=60) == 130, printed()
    (run,) = runs_of_trials().values()
    assert (run.info.status, run.data.tags["state"]) == ("RUNNING", "running")
    assert successor.wait(timeout=300) == 0, printed()
    assert [trial.state for trial in storage.trials()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_two_workers_make_exactly_the_trials_that_were_asked_for(started):
    assert started("workers=2", "n_trials=6", "fit.epochs=5").wait(timeout=300) == 0, printed()
    trials = find_study("sqlite:///study.db").trials()
    assert len(trials) == 6
    assert {trial.state for trial in trials} <= set(COUNTED)
    processes = {trial.user_attrs[PROCESS] for trial in trials}
    assert len(processes) == 2, "each had a share"
