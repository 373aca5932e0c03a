"""Where a training's time goes, by torch's own profiler."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pneumo.runs.tracking import Tracker

SKIPPED, WARMED, PROFILED = 2, 2, 20  # steps


@contextmanager
def profiled(wanted: bool, tracker: Tracker) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after every step. A table of the costliest operations and a trace for
    chrome://tracing or Perfetto, over PROFILED steps of the first epoch, go into the run."""
    if not wanted:
        yield lambda: None
        return
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    steps = schedule(skip_first=SKIPPED, wait=0, warmup=WARMED, active=PROFILED, repeat=1)
    with profile(activities=kinds, schedule=steps) as profiler:
        yield profiler.step
    tracker.log_text(profiler.key_averages().table(sort_by=by, row_limit=40), "profile/operations.txt")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json.gz")
        profiler.export_chrome_trace(str(trace))
        tracker.log_artifact(trace, "profile")
