"""Several processes on one trial: they train as one, and end together."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from optuna.trial import TrialState
from test_workers import find_study, printed, running_trials, started, wait_until

from pneumo.errors import PeerError
from pneumo.runs import checkpoint
from pneumo.sweep import processes
from pneumo.sweep.attributes import FAILURE, REASON
from pneumo.sweep.processes import run_in_processes

__all__ = ["started"]  # a fixture
URL = "sqlite:///study.db"
TWO = ["pool.processes=2", "fit.batch_size=8"]
LONG = [*TWO, "n_trials=1", "fit.epochs=2000", "pruner=none"]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # the first process' own


def ranks(of):
    """What every process is told of itself and the others."""
    return f"{of} {os.environ['RANK']} of {os.environ['WORLD_SIZE']}, {torch.get_num_threads()} thread"


def second_fails(how):
    if os.environ["RANK"] == "1":
        if how == "raises":
            raise ValueError("only the second says this")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)  # waits for the second


def first_returns(_):
    if os.environ["RANK"] == "1":
        time.sleep(3600)
    return os.getpid()


def left_over():
    """Processes that this one has started and that are still there."""
    return [child.pid for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_the_result_is_the_first_process_own():
    assert run_in_processes(2, ranks, "I am") == "I am 0 of 2, 1 thread"


def test_the_others_end_with_the_first():
    assert run_in_processes(2, first_returns, None) != os.getpid()
    assert not left_over()


@pytest.mark.parametrize(
    ("how", "why"),
    [("raises", "ValueError: only the second says this"), ("is killed", "process 1 terminated with signal")],
)
def test_a_process_that_fails_ends_all_and_says_why(how, why, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.1)
    with pytest.raises(PeerError, match=f"^process 2 of 2 failed: {why}"):
        run_in_processes(2, second_fails, how)
    assert not left_over()


def test_processes_are_ended_where_an_interrupt_comes_while_they_are_started(monkeypatch):
    start = processes.start_processes

    def interrupted(*given, **options):
        start(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "start_processes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(2, ranks, "I am")
    assert not left_over()


def test_a_trial_of_two_processes_trains_as_one_with_twice_the_accumulation(started):
    equal = ["n_trials=1", "fit.epochs=2", "optimizer=sgd", "fit.precision=fp32", "augment=safe"]
    for study, how in (("two", TWO), ("one", ["fit.batch_size=8", "fit.accumulation_steps=2"])):
        sweep = started(*equal, *how, f"study={study}")
        assert sweep.wait(timeout=200) == 0, printed()
    folders = [next(Path("outputs/studies").glob(f"{study}-*")) for study in ("two", "one")]
    two, one = (
        {name: value for name, value in state["model"].items() if not name.endswith(STATISTICS)}
        for state in [checkpoint.read(folder / "0/checkpoints/last.pt") for folder in folders]
    )
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6


def test_a_killed_process_costs_an_attempt_and_the_trial_is_done_again(started):
    sweep = started(*TWO, "n_trials=1", "fit.epochs=60", "pruner=none")
    storage = wait_until(lambda: find_study(URL), sweep)
    (first,) = wait_until(lambda: running_trials(storage, epochs=1), sweep)
    (second,) = set(children(sweep)) - {first}
    os.kill(second, signal.SIGKILL)
    assert sweep.wait(timeout=200) == 0, printed()
    failed, again = storage.trials()
    assert (failed.user_attrs[FAILURE], again.state) == ("crash", TrialState.COMPLETE)
    assert "process 2 of 2 failed: process 1 terminated with signal SIGKILL" in failed.user_attrs[REASON]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes_and_queues_the_trial_again(started, number):
    sweep = started(*LONG)
    storage = wait_until(lambda: find_study(URL), sweep)
    wait_until(lambda: running_trials(storage, epochs=1), sweep)
    held = children(sweep)
    for pid in [*held, sweep.pid] if number == signal.SIGINT else [sweep.pid]:  # as a terminal does
        os.kill(pid, number)
    assert sweep.wait(timeout=60) == 130, printed()
    assert not any(map(psutil.pid_exists, held))
    assert storage.trial(0).user_attrs[FAILURE] == "stopped"
    assert "Traceback" not in printed()


def test_the_processes_of_a_killed_worker_end_with_it(started):
    sweep = started(*LONG)
    storage = wait_until(lambda: find_study(URL), sweep)
    wait_until(lambda: running_trials(storage, epochs=1), sweep)
    held = [psutil.Process(pid) for pid in children(sweep)]
    sweep.kill()
    _, alive = psutil.wait_procs(held, timeout=60)
    assert not alive
    assert storage.trial(0).user_attrs[FAILURE] == "stopped"


def test_a_study_is_not_continued_with_another_number_of_processes(started):
    assert started(*TWO, "n_trials=1", "fit.epochs=1").wait(timeout=200) == 0, printed()
    assert started("fit.batch_size=8", "n_trials=2", "fit.epochs=1").wait(timeout=200) == 1
    assert "pool.processes: then 2, now not there" in printed()


def children(process):
    """The processes that train its trial."""
    return [
        child.pid
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
