"""Takes threads back from a training on a CPU while other processes use its cores.

The threads of an operation wait for each other. Where another process has the core of one of them, all wait
until that one has its turn, so that a training on two threads is several times slower than on one
(docs/benchmarks.md). With as many threads as there are free cores, it keeps its share."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from pneumo.training.trainer import Trainer

FIRST_SECONDS, SECONDS = 0.2, 3.0  # that the cores are watched, before the first batch and from then on
SET_BY_USER = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class CpuTimes:
    """Seconds until now: of the clock, of the processor for this process, and of each core that this process
    may use while it was busy; in a container that lists its own cores alone, by other numbers, all of
    these."""

    clock: float
    own: float
    busy: tuple[float, ...]

    @classmethod
    def now(cls) -> "CpuTimes":
        listed = dict(enumerate(psutil.cpu_times(percpu=True)))
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else listed
        here = [listed[core] for core in allowed if core in listed] or listed.values()
        return cls(time.perf_counter(), time.process_time(), tuple(map(busy_seconds, here)))

    def free_cores_since(self, before: "CpuTimes") -> float:
        """Of the cores, those that no other process has used since then, on average."""
        others = sum(self.busy) - sum(before.busy) - (self.own - before.own)
        return len(self.busy) - max(0.0, others) / (self.clock - before.clock)


def busy_seconds(times: Any) -> float:
    """Of what psutil says about a core: all but the idle ones, and those of guests, which are a part of the
    others."""
    left_out = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in left_out))


def threads_for(free_cores: float) -> int:
    """At least 1. A core that others use half of the time is as good as none: the threads wait for it."""
    return max(1, int(free_cores + 0.5))


class ThreadLimiter:
    """Sets the threads of torch to the number of free cores: at least 1, at most as many as torch had.
    `on_fewer(threads, most)` is called the first time that they are fewer."""

    def __init__(self, on_fewer: Callable[[int, int], None]):
        self.most = torch.get_num_threads()
        self._on_fewer: Callable[[int, int], None] | None = on_fewer
        self._before = CpuTimes.now()

    def after_batch(self) -> None:
        """Looks again, if the last time is long enough ago."""
        if time.perf_counter() - self._before.clock >= SECONDS:
            self.adjust()

    def adjust(self) -> None:
        """Sets the threads by what has happened since the last time."""
        now = CpuTimes.now()
        threads = min(self.most, threads_for(now.free_cores_since(self._before)))
        self._before = now
        torch.set_num_threads(threads)
        if threads < self.most and self._on_fewer:
            self._on_fewer(threads, self.most)
            self._on_fewer = None


@contextmanager
def limited_threads(
    trainer: Trainer, on_batch: Callable[[int, int], None], on_fewer: Callable[[int, int], None]
) -> Iterator[Callable[[int, int], None]]:
    """Inside the block, a training has as many threads as there are free cores. Yields a function to call
    after each batch instead of `on_batch`, which it calls.

    Nothing is changed on a GPU, where the same bits are asked for, where OMP_NUM_THREADS is set, or where
    several processes train together."""
    fixed = trainer.settings.deterministic or SET_BY_USER in os.environ or trainer.processes.count > 1
    if fixed or trainer.accelerator.device.type != "cpu" or torch.get_num_threads() == 1:
        yield on_batch
        return
    limiter = ThreadLimiter(on_fewer)
    time.sleep(FIRST_SECONDS)
    limiter.adjust()

    def after_batch(done: int, total: int) -> None:
        on_batch(done, total)
        limiter.after_batch()

    try:
        yield after_batch
    finally:
        torch.set_num_threads(limiter.most)
