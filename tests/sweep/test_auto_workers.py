"""workers=auto: how many processes it starts, with which threads and GPUs, and how they end."""

import os
import signal
import subprocess
import sys
from collections import namedtuple

import psutil
import pytest
import torch
from optuna.trial import TrialState
from test_workers import find_study, printed, running_trials, started, wait_until

from pneumo.sweep import workers
from pneumo.sweep.attributes import FAILURE, PROCESS
from pneumo.sweep.workers import GIB, count, environment, pass_on, threads_each

__all__ = ["started"]  # a fixture
Memory = namedtuple("Memory", "available")


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one of so many cores, GPUs and GiB of free memory."""

    def be(cores, gpus=0, gib=64, threads=None):
        monkeypatch.setattr(workers, "cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(gib * GIB))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if threads:
            monkeypatch.setenv("OMP_NUM_THREADS", threads)

    return be


@pytest.mark.parametrize(
    ("here", "n"),
    [
        ({"cores": 1}, 1),
        ({"cores": 4}, 4),
        ({"cores": 64}, 8),
        ({"cores": 4, "gib": 2.5}, 2),
        ({"cores": 4, "gib": 0.5}, 1),
        ({"cores": 4, "threads": "2"}, 2),
        ({"cores": 2, "threads": "4"}, 1),
        ({"cores": 16, "gpus": 2}, 2),
    ],
)
def test_auto_is_a_process_for_each_gpu_or_what_cores_and_memory_allow(machine, here, n):
    machine(**here)
    assert count(20, launches_here=True, memory_each=GIB) == n


def test_processes_of_a_trial_take_the_place_of_workers(machine):
    machine(cores=8)
    assert count(20, launches_here=True, memory_each=GIB, processes_each=2) == 4
    machine(cores=16, gpus=4)
    assert count(20, launches_here=True, memory_each=GIB, processes_each=2) == 2
    assert environment(1, 2, processes_each=2)["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_auto_starts_no_more_processes_than_there_are_trials(machine):
    machine(cores=4)
    assert count(3, launches_here=True, memory_each=GIB) == 3


def test_auto_is_1_where_trials_are_launched_elsewhere_or_on_apple_s_gpu(machine, monkeypatch):
    machine(cores=4)
    assert count(20, launches_here=False, memory_each=GIB) == 1
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert count(20, launches_here=True, memory_each=GIB) == 1


def test_workers_share_the_cores_unless_their_threads_are_set(machine):
    machine(cores=8)
    assert [threads_each(n) for n in (1, 3, 16)] == [8, 2, 1]
    assert environment(1, 2)["OMP_NUM_THREADS"] == "4"
    machine(cores=8, threads="3")
    assert environment(1, 2)["OMP_NUM_THREADS"] == "3"


def test_each_worker_has_a_gpu_of_those_that_may_be_used(machine, monkeypatch):
    machine(cores=8, gpus=2)
    assert [environment(n, 2)["CUDA_VISIBLE_DEVICES"] for n in (0, 1)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "7"


def test_what_several_workers_print_alike_is_said_once_and_nothing_once_they_are_stopped():
    heard, said, stopping = [], set(), workers.Event()
    pass_on(["away\n", "\n", " #3  .9\n"], said, stopping, heard.append)
    pass_on(["away\n", " #4  .8\n"], said, stopping, heard.append)
    stopping.set()
    pass_on(["Traceback\n"], said, stopping, heard.append)
    assert heard == ["away", " #3  .9", " #4  .8"]


WORKER = """#!{python}
import signal, sys, time
from pathlib import Path

def stop(*_):
    Path("stopped").touch()
    sys.exit()

signal.signal(signal.SIGTERM, stop)
Path("started").touch()
time.sleep(100)
"""
LAST_TO_END = """
import signal, sys
from pneumo.sweep import workers

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.executable = "./worker"
try:
    with workers.beside(2, [], print):
        pass
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_while_the_last_workers_are_waited_for_lets_them_store_their_trials(workdir):
    (workdir / "worker").write_text(WORKER.format(python=sys.executable))
    (workdir / "worker").chmod(0o755)
    waiting = subprocess.Popen([sys.executable, "-c", LAST_TO_END])
    wait_until(lambda: (workdir / "started").exists(), waiting)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(timeout=60) == 130
    assert (workdir / "stopped").exists()


def both_train(storage, sweep):
    """The processes of a sweep of two workers, once each has trained an epoch."""
    return wait_until(lambda: len(held := running_trials(storage, epochs=1)) == 2 and held, sweep)


def test_an_interrupt_ends_all_workers_quietly_and_queues_their_trials_again(started):
    sweep = started("workers=2", "n_trials=4", "fit.epochs=60", "pruner=none")
    storage = wait_until(lambda: find_study("sqlite:///study.db"), sweep)
    held = both_train(storage, sweep)
    for pid in held:  # as Ctrl-C does, which all processes of a terminal get
        os.kill(pid, signal.SIGINT)
    assert sweep.wait(timeout=60) == 130, printed()
    assert not any(map(psutil.pid_exists, held))
    stopped = [storage.trial(number) for number in held.values()]
    assert [(trial.state, trial.user_attrs[FAILURE]) for trial in stopped] == [
        (TrialState.FAIL, "stopped")
    ] * 2
    assert len(storage.trials(TrialState.WAITING)) == 2
    assert "Traceback" not in printed()
    assert "stopped   0 of 4 trials are done and stored" in printed()


def test_the_first_process_of_the_command_trains_as_well(started):
    sweep = started("workers=2", "n_trials=2", "fit.epochs=100", "pruner=none")
    assert sweep.wait(timeout=300) == 0, printed()
    storage = find_study("sqlite:///study.db")
    processes = {int(trial.user_attrs[PROCESS].split(":")[1]) for trial in storage.trials()}
    assert len(processes) == 2
    assert sweep.pid in processes
    assert all(printed().count(f"\n #{trial.number} ") == 1 for trial in storage.trials())
