"""Profiles a training with torch's profiler."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pneumo.display.format import counted
from pneumo.runs.tracker import Tracker

SKIPPED, WARMUP, PROFILED = 2, 2, 20  # steps


@contextmanager
def profiled(enabled: bool, tracker: Tracker) -> Iterator[Callable[[], None]]:
    """Yields a function to call after every step. If `enabled`, logs a table of the most expensive operations
    and a trace for chrome://tracing or Perfetto, over PROFILED steps of the first epoch. A training that ends
    before the first of these is not profiled, which is said."""
    if not enabled:
        yield lambda: None
        return
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    steps = schedule(skip_first=SKIPPED, wait=0, warmup=WARMUP, active=PROFILED, repeat=1)
    done = count()
    with profile(activities=kinds, schedule=steps) as profiler:

        def step() -> None:
            next(done)
            profiler.step()

        yield step
    if (trained := next(done)) <= SKIPPED + WARMUP:
        tracker.callback.terminal.warn(
            f"fit.profile=true: the training has {counted(trained, 'step')}, and the first "
            f"{SKIPPED + WARMUP} are not profiled, so there is no profile"
        )
        return
    tracker.log_text(profiler.key_averages().table(sort_by=order, row_limit=40), "profile/operations.txt")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json.gz")
        profiler.export_chrome_trace(str(trace))
        tracker.log_artifact(trace, "profile")
