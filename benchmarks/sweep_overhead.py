"""python benchmarks/sweep_overhead.py: what a trial costs beside its training, early and late in a study.

The training loop alone is replaced (stubbed.py); composing, launching, Optuna and MLflow on SQLite, data,
model, checkpoint and judging are real. A trial should cost at most a second, the three hundredth no more than
the first. Below the totals: the same seconds by what they were spent on, each without what lies inside it.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from threading import current_thread, main_thread
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from optuna.storages import RDBStorage
from rich.console import Console
from rich.table import Table
from runs import surroundings
from stubbed import SMALL, main

import pneumo.runs.run
import pneumo.sweep.job
from pneumo.runs import tracking
from pneumo.runs.checkpoint import CheckpointWriter
from pneumo.runs.tracker import Tracker
from pneumo.sweep.launch import TrialLauncher
from pneumo.sweep.plan import StudyPlan
from pneumo.sweep.search_space import SearchSpace
from pneumo.sweep.settings import StudySettings
from pneumo.sweep.storage import StudyStorage
from pneumo.sweep.trial import TrialCallback

AT_MOST_SECONDS = 1.0
FLAT = 1.2  # the last trials over the first
DATABASE = [
    name for name in vars(RDBStorage) if name.startswith(("get_", "set_", "create_", "record_", "_get_stale"))
]
PARTS: list[tuple[str, Any, Sequence[str]]] = [  # name, whose, methods
    ("composing", StudyPlan, ["job"]),
    ("composing", ConfigLoaderImpl, ["load_sweep_config"]),
    ("sampling", StudyStorage, ["claim_trial"]),
    ("sampling", SearchSpace, ["suggest"]),
    ("study's database", RDBStorage, DATABASE),
    ("study's database, opening", StudySettings, ["open_storage"]),
    ("MLflow", Tracker, ["start", "log", "tag", "log_text", "__exit__"]),
    ("MLflow", tracking, ["connect", "tag_run"]),
    ("data and model", TrialCallback, ["dataset"]),
    ("data and model", pneumo.runs.run, ["build_model", "build_trainer", "build_train_state"]),
    ("checkpoint", CheckpointWriter, ["save_epoch", "best_weights"]),
    ("evaluation", pneumo.runs.run, ["evaluate"]),
    ("forgetting", pneumo.sweep.job, ["free_gpu_memory"]),
]
REST = "the rest: Hydra's job, files"


class Stopwatch:
    """Seconds by part of this process's main thread, and what they were at the end of each trial."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.trials: list[dict[str, float]] = []
        self._open = [REST]
        self._since = time.perf_counter()

    def switch(self) -> None:
        now = time.perf_counter()
        self.spent[self._open[-1]] += now - self._since
        self._since = now

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            if current_thread() is not main_thread():  # heartbeats
                return call(*given, **named)
            self.switch()
            self._open.append(part)
            try:
                return call(*given, **named)
            finally:
                self.switch()
                self._open.pop()

        return timed

    def ending_a_trial(self, launch: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            launch(*given)
            self.switch()
            self.trials.append(dict(self.spent))

        return counted

    def callback(self) -> None:
        for part, owner, names in PARTS:
            for name in names:
                timed = self.around(part, getattr(owner, name))
                setattr(owner, name, staticmethod(timed) if name == "start" else timed)
        TrialLauncher.launch = self.ending_a_trial(TrialLauncher.launch)  # type: ignore[method-assign]

    def between(self, first: int, last: int) -> dict[str, float]:
        """Seconds a trial, after the first so many and up to the last; the largest first."""
        before, after = self.trials[first], self.trials[last]
        mean = {part: (spent - before.get(part, 0)) / (last - first) for part, spent in after.items()}
        return dict(sorted(mean.items(), key=lambda item: -item[1]))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--window", type=int, default=50)
    options = parser.parse_args()
    stopwatch = Stopwatch()
    stopwatch.callback()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kept = surroundings()
        os.environ.clear()
        os.environ.update(kept)
        sys.argv = [
            "sweep.py",
            "-m",
            "workers=1",
            *SMALL,
            f"n_trials={options.trials + 1}",
        ]  # one that does not count
        said = StringIO()
        try:
            with redirect_stdout(said):
                main()
        except SystemExit:
            print(said.getvalue()[-4000:], file=sys.stderr)
            raise
        os.chdir("/")

    bounds = range(0, len(stopwatch.trials), options.window)
    windows = list(pairwise(bounds))
    spent = [stopwatch.between(*window) for window in windows]
    table = Table("seconds a trial", *(f"{a + 1} to {b}" for a, b in windows), box=None, padding=(0, 3, 0, 0))
    totals = [sum(window.values()) for window in spent]
    table.add_row("all but training", *(f"{total:.2f}" for total in totals))
    for part in spent[-1]:
        table.add_row(f"  {part}", *(f"{window.get(part, 0):.3f}" for window in spent))
    console = Console(highlight=False, width=110)
    console.print(table)
    ratio = totals[-1] / totals[0]
    console.print(f"last over first {ratio:.2f}; the slowest {max(totals):.2f} s a trial")
    good = max(totals) <= AT_MOST_SECONDS and ratio <= FLAT
    sys.exit(0 if good else f"at most {AT_MOST_SECONDS:g} s and {FLAT:g} are asked for")


if __name__ == "__main__":
    run()
