"""A study that was interrupted goes on, and one that cannot go on says why: real processes, real signals."""

import signal
import subprocess

import mlflow
from mlflow_server import serving
from optuna.trial import TrialState
from postgres import free_port
from test_workers import (
    SWEEP,
    find_study,
    logged_epochs,
    printed,
    running_trials,
    runs_of_trials,
    started,
    wait_until,
)

from pneumo.runs import tracking

__all__ = ["started"]  # a fixture
SQLITE = "sqlite:///study.db"
LONG = ["pruner=none", "fit.epochs=25"]  # seconds a trial


def typed(*overrides):
    """The sweep, from its start to its end."""
    return subprocess.run([*SWEEP, *overrides], capture_output=True, text=True, timeout=300)


def after_an_epoch(process, url):
    """The study, once a trial of it has trained."""
    storage = wait_until(lambda: find_study(url), process)
    wait_until(lambda: running_trials(storage, epochs=1), process)
    return storage


def test_a_killed_study_continues_to_n_trials_and_no_further(started):
    command = ["n_trials=2", *LONG]
    process = started(*command)
    storage = after_an_epoch(process, SQLITE)
    process.kill()
    process.wait()
    (killed,) = storage.trials(TrialState.RUNNING)

    assert started(*command).wait(timeout=300) == 0, printed()
    one, *others = storage.trials()
    assert one.state == TrialState.FAIL
    assert [trial.state for trial in others] == [TrialState.COMPLETE] * 2
    (again,) = [trial for trial in others if "attempts" in trial.user_attrs]
    assert again.user_attrs["attempts"] == [killed.number]
    assert again.user_attrs["run_id"] == killed.user_attrs["run_id"]
    assert logged_epochs(again) == list(range(1, 26)), "each once: it went on after the last"
    assert len(runs_of_trials()) == 2

    before = [trial.state for trial in storage.trials()]
    done = typed(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert [trial.state for trial in storage.trials()] == before
    assert len(runs_of_trials()) == 2

    other = typed("n_trials=2", "pruner=none", "fit.epochs=26", "optimizer.lr=interval(0.1,1)")
    assert other.returncode == 1
    assert "The study s exists with other settings" in other.stderr
    assert "fit.epochs: then 25, now 26" in other.stderr
    assert "optimizer.lr: then 0.0001 to 0.1, log, now 0.1 to 1" in other.stderr
    assert "Traceback" not in other.stderr
    assert [trial.state for trial in storage.trials()] == before


def test_an_interrupted_study_exits_with_130_and_finishes_its_trial_next_time(started):
    process = started("n_trials=1", *LONG)
    storage = after_an_epoch(process, SQLITE)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, printed()
    stopped, queued = storage.trials()
    assert (stopped.state, stopped.user_attrs["failure"]) == (TrialState.FAIL, "stopped")
    assert queued.state == TrialState.WAITING
    (run,) = runs_of_trials().values()
    assert run.info.status == "KILLED"

    assert started("n_trials=1", *LONG).wait(timeout=300) == 0, printed()
    assert "Traceback" not in printed()
    finished = storage.trials()[1]
    assert finished.state == TrialState.COMPLETE
    assert finished.params == stopped.params
    assert logged_epochs(finished) == list(range(1, 26))
    (run,) = runs_of_trials().values()
    assert (run.info.run_id, run.info.status) == (finished.user_attrs["run_id"], "FINISHED")


def test_a_password_among_the_overrides_is_refused_before_anything_is_written(workdir):
    done = typed("storage=postgresql://me:secret@127.0.0.1/x")
    assert done.returncode == 1
    assert "PNEUMO_STORAGE=..." in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(workdir.iterdir()) == []


def test_an_unreachable_storage_is_reported_in_one_line(workdir, monkeypatch):
    port = free_port()
    monkeypatch.setenv("PNEUMO_STORAGE", f"postgresql://me:secret@127.0.0.1:{port}/x")
    done = typed("n_trials=1")
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).split("\n\n")[-1].strip().splitlines()
    assert line.startswith(f"The study's storage postgresql://127.0.0.1:{port}/x cannot be reached: ")
    assert "secret" not in done.stdout + done.stderr
    assert not (workdir / "outputs").exists()


def test_a_storage_that_stops_for_a_while_costs_nothing(started, postgres, database, monkeypatch):
    """Neither the process that trains nor one that waits for the trial to end."""
    monkeypatch.setenv("PNEUMO_STORAGE", database)
    command = ["n_trials=1", *LONG, "hydra.sweeper.storage_minutes=2"]
    both = started(*command), started(*command)
    wait_until(lambda: printed().count("0 of 1 done") == 2, *both)
    after_an_epoch(both[0], database)
    postgres.stop()
    try:
        wait_until(lambda: "FINISHED" in [run.info.status for run in runs_of_trials().values()], *both)
    finally:
        postgres.start()
    assert [process.wait(timeout=120) for process in both] == [0, 0], printed()
    assert "Traceback" not in printed()
    assert [trial.state for trial in find_study(database).trials()] == [TrialState.COMPLETE]


def test_an_mlflow_that_goes_away_stops_the_study_and_loses_nothing(started, workdir, monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    command = ["n_trials=1", *LONG]
    with serving(port):
        process = started(*command)
        storage = after_an_epoch(process, SQLITE)
    assert process.wait(timeout=120) == 1, printed()
    assert f"MLflow at http://127.0.0.1:{port} cannot be used: " in printed()
    assert "secret" not in printed()
    assert [trial.state for trial in storage.trials()] == [TrialState.FAIL, TrialState.WAITING]

    with serving(port):
        assert started(*command).wait(timeout=300) == 0, printed()
        finished = storage.trials()[1]
        assert finished.state == TrialState.COMPLETE
        assert logged_epochs(finished) == list(range(1, 26))


def test_a_study_whose_runs_mlflow_has_lost_says_so_and_goes_on_below_a_new_run(started, workdir):
    short = ["fit.epochs=2", "pruner=none"]
    assert started("n_trials=1", *short).wait(timeout=300) == 0, printed()
    (lost,) = find_study(SQLITE).trials()
    for file in workdir.glob("mlflow.db*"):
        file.unlink()

    assert started("n_trials=2", *short).wait(timeout=300) == 0, printed()
    assert "Traceback" not in printed()
    assert "lost      MLflow at mlflow.db has no run " in printed()
    storage = find_study(SQLITE)
    assert [trial.state for trial in storage.trials()] == [TrialState.COMPLETE] * 2
    (kept,) = runs_of_trials().values()
    assert kept.info.run_id != lost.user_attrs["run_id"]
    parent = kept.data.tags["mlflow.parentRunId"]
    assert parent == storage.study.user_attrs["parent_run"]
    assert mlflow.get_run(parent).info.status == "FINISHED"


def test_a_study_whose_process_was_killed_while_it_logged_the_results_logs_them_the_next_time(started):
    command = ["n_trials=1", "fit.epochs=1", "pruner=none"]
    assert started(*command).wait(timeout=300) == 0, printed()
    parent = find_study(SQLITE).study.user_attrs["parent_run"]
    runs_of_trials()  # connects
    tracking.reopen_run(parent)  # as it is until the results are logged, after they were noted as saved
    assert started(*command).wait(timeout=300) == 0, printed()
    assert mlflow.get_run(parent).info.status == "FINISHED"
