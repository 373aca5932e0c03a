"""python benchmarks/sweep_workers.py: trials a minute of four workers against one, on PostgreSQL.

A trial's training is a sleep (stubbed.py), so that four have four times the time of one even on few cores;
all the rest of a trial is real, and its MLflow runs go to one SQLite database, as on one machine by default.
Timed from when every worker has taken its first trial to the end of the last; a trial that was under way at
that moment counts with the part of it that came after. The server is a throw-away one on loopback, from
Debian's package.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table
from runs import ROOT, surroundings
from stubbed import SECONDS, SMALL

from pneumo.sweep.attributes import PROCESS
from pneumo.sweep.storage import open_study

sys.path.insert(0, str(ROOT / "tests"))
from postgres import NotInstalledError, Server, running

AT_LEAST = 3.5
Study = Callable[[Server, int, int, float], optuna.Study]  # of so many workers, trials and seconds a training


def study(server: Server, workers: int, n_trials: int, seconds: float) -> optuna.Study:
    """Carried out, in a folder of its own."""
    name = f"workers_{workers}"
    server.create(name)
    settings = ["workers=1", f"n_trials={n_trials}", f"study={name}", "pruner=none", *SMALL]
    command = [sys.executable, str(ROOT / "benchmarks" / "stubbed.py"), "-m", *settings]
    environment = surroundings(PNEUMO_STORAGE=server.url(name), **{SECONDS: str(seconds)})
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with tempfile.TemporaryDirectory() as folder:  # workers=N would start pneumo's own command N - 1 times
        processes = [subprocess.Popen(command, cwd=folder, env=environment, **pipe) for _ in range(workers)]
        printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("".join(printed)[-4000:])
    return open_study(server.url(name), name, directions=None).study


def trials_a_minute(study: optuna.Study, workers: int) -> float:
    """From when all of them have a trial."""
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    first: dict[str, float] = {}
    spans = []
    for trial in trials:
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        start, end = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
        if process := trial.user_attrs.get(PROCESS):  # one that was taken over from an equal one has none
            first[process] = min(start, first.get(process, start))
        spans.append((start, end))
    if len(first) != workers:
        sys.exit(f"{len(first)} of {workers} workers had a trial: more trials are needed (--trials)")
    began = max(first.values())
    done = sum((end - max(start, began)) / (end - start) for start, end in spans if end > began)
    return 60 * done / (max(end for _, end in spans) - began)


def arguments(about: str) -> argparse.Namespace:
    """Of the command line; `about` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--alone", type=int, help="trials of the one worker, if fewer than --trials")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a training sleeps")
    return parser.parse_args()


def compare(server: Server, study: Study, given: argparse.Namespace) -> None:
    """Prints trials a minute of one worker and of all. Exits with a message where the ratio is below
    AT_LEAST."""
    table = Table("workers", "trials", "trials a minute", box=None, padding=(0, 3, 0, 0))
    rates = []
    for workers, n_trials in ((1, given.alone or given.trials), (given.workers, given.trials)):
        rates.append(trials_a_minute(study(server, workers, n_trials, given.seconds), workers))
        table.add_row(str(workers), str(n_trials), f"{rates[-1]:.1f}")
    ratio = rates[1] / rates[0]
    console = Console(highlight=False)
    console.print(f"trainings that sleep {given.seconds:g} s, on {os.cpu_count()} cores")
    console.print(table)
    console.print(f"ratio {ratio:.2f}")
    sys.exit(0 if ratio >= AT_LEAST else f"at least {AT_LEAST:g} is asked for")


def main() -> None:
    given = arguments(__doc__)
    with running() as server:
        compare(server, study, given)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server ends with it
    try:
        main()
    except NotInstalledError as error:
        sys.exit(str(error))
