"""The threads of a training beside other processes on the same cores."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from psutil._pslinux import scputimes

from pneumo.training import cpu_threads
from pneumo.training.cpu_threads import CpuTimes, ThreadLimiter, busy_seconds, limited_threads, threads_for
from pneumo.training.device import Accelerator

BURN = "print('ready', flush=True)\nwhile True: pass"


def silent(*numbers):
    pass


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@contextmanager
def every_core_busy():
    others = [
        subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE)
        for _ in os.sched_getaffinity(0)
    ]
    try:
        for other in others:
            other.stdout.readline()
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
            other.stdout.close()


@pytest.fixture
def look(monkeypatch):
    """A limiter of 4 threads on 4 cores, and a function that lets it look after 10 seconds, of which it has
    used `own` and all processes together `busy`."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    chosen, told = [], []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(CpuTimes, "now", lambda: CpuTimes(0.0, 0.0, (0.0,) * 4))
    limiter = ThreadLimiter(lambda *numbers: told.append(numbers))

    def after_ten_seconds(own, busy):
        before = limiter._before
        each = tuple(value + busy / 4 for value in before.busy)
        now = CpuTimes(before.clock + 10, before.own + own, each)
        monkeypatch.setattr(CpuTimes, "now", lambda: now)
        limiter.adjust()
        return chosen[-1]

    after_ten_seconds.told = told
    return after_ten_seconds


def test_free_cores_are_those_that_no_other_process_has_used():
    before = CpuTimes(clock=100.0, own=7.0, busy=(50.0, 20.0))
    now = CpuTimes(clock=110.0, own=13.0, busy=(60.0, 26.0))  # both together 16 of 20, of which 6 are its own
    assert now.free_cores_since(before) == 1.0


def test_a_core_is_idle_while_it_waits_and_a_guest_is_counted_once():
    counted = {"user": 10.0, "nice": 1.0, "system": 2.0, "irq": 0.5, "softirq": 0.5, "steal": 3.0}
    times = scputimes(**counted, idle=40.0, iowait=5.0, guest=4.0, guest_nice=0.0)
    assert busy_seconds(times) == 17.0


@pytest.mark.parametrize(("allowed", "expected"), [({0}, 1), ({0, 900}, 1), ({900, 901}, os.cpu_count())])
def test_cores_are_those_that_may_be_used_or_all_of_a_container_that_numbers_its_own(
    monkeypatch, allowed, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed)
    assert len(CpuTimes.now().busy) == expected


def test_threads_follow_the_free_cores_down_and_up_again_and_it_is_told_once(look):
    assert look(own=40, busy=40) == 4
    assert look(own=36, busy=40) == 4  # others have .4 of a core
    assert look(own=10, busy=30) == 2
    assert look(own=10, busy=40) == 1
    assert look(own=10, busy=10) == 4
    assert look.told == [(2, 4)]


@given(st.floats(-1, 64), st.floats(-1, 64))
def test_more_free_cores_are_never_fewer_threads_and_there_is_always_one(less, more):
    less, more = sorted((less, more))
    assert 1 <= threads_for(less) <= threads_for(more) < max(1, more) + 1


def test_beside_processes_that_use_every_core_a_training_has_one_thread(small_fit, two_threads):
    trainer, _ = small_fit(settings={"device": "cpu"})
    told = []
    with every_core_busy(), limited_threads(trainer, silent, lambda *numbers: told.append(numbers)):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert told == [(1, 2)]


def test_a_training_looks_again_after_some_seconds(small_fit, two_threads, monkeypatch):
    monkeypatch.setattr(cpu_threads, "SECONDS", 0.0)
    looked = []
    monkeypatch.setattr(ThreadLimiter, "adjust", lambda self: looked.append(1))
    trainer, _ = small_fit(settings={"device": "cpu"})
    done = []
    with limited_threads(trainer, lambda *numbers: done.append(numbers), silent) as on_batch:
        on_batch(1, 8)
    assert (len(looked), done) == (2, [(1, 8)])


@pytest.mark.parametrize("fixed", ["OMP_NUM_THREADS", "fit.deterministic", "one thread", "a GPU"])
def test_threads_that_are_settled_are_left_alone(small_fit, two_threads, monkeypatch, fixed):
    trainer, _ = small_fit(settings={"deterministic": fixed == "fit.deterministic"})
    if fixed == "OMP_NUM_THREADS":
        monkeypatch.setenv(fixed, "2")
    if fixed == "one thread":
        torch.set_num_threads(1)
    if fixed == "a GPU":
        trainer = replace(trainer, accelerator=Accelerator(torch.device("cuda"), torch.float32))
    before = torch.get_num_threads()
    with every_core_busy(), limited_threads(trainer, silent, silent) as on_batch:
        assert on_batch is silent
        assert torch.get_num_threads() == before
