"""python benchmarks/chaos/clocks.py: two workers whose clocks are 90 s apart share a study.

The clock of one is 90 s ahead in even rounds and behind in odd ones: clock_ahead.c, which cc compiles,
changes the time of day of its process. The database is SQLite in the first half of the rounds and PostgreSQL
in the second. A heartbeat is taken for dead after 6 s. No trial may be taken from the worker that trains it,
and every epoch is logged once.
"""

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from commands import (
    Findings,
    arguments,
    carry_out,
    ended,
    environment,
    faults_of_study,
    runs_in,
    start,
    sweep,
)
from optuna.trial import TrialState
from postgres import running

from pneumo.sweep.storage import open_study

SECONDS_APART, N_TRIALS, EPOCHS = 90, 6, 40
LIMIT_SECONDS = 900


def other_clock(library: Path, seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is so many seconds ahead."""
    return {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(seconds)}


def faults_of_round(url: str, clock: dict[str, str], folder: Path) -> list[str]:
    """What is wrong after a round in a new folder."""
    env = environment(PNEUMO_STORAGE=url, PNEUMO_STORES=str(folder.parent / "stores"))
    command = sweep(f"n_trials={N_TRIALS}", f"fit.epochs={EPOCHS}", "study=s")
    workers = [start(command, folder, env), start(command, folder, env | clock)]
    with ended(workers):
        codes = [worker.wait(LIMIT_SECONDS) for worker in workers]
    faults = [f"exit codes {codes}"] if any(codes) else []
    runs = runs_in(f"sqlite:///{folder}/mlflow.db")
    trials = open_study(url, "s", directions=None).trials()
    if taken := [trial.number for trial in trials if trial.state == TrialState.FAIL]:
        faults.append(f"trials {taken} were taken from the worker that trained them")
    if len({trial.user_attrs.get("process") for trial in trials}) != 2:
        faults.append("one worker had all trials")
    return faults + faults_of_study(trials, runs, N_TRIALS, EPOCHS)


def main() -> int:
    given = arguments(__doc__, rounds=4)
    findings = Findings("clocks")
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(running())
        library = Path(place, "clock_ahead.so")
        source = Path(__file__).with_name("clock_ahead.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        for number in range(given.rounds):
            folder = Path(place, str(number))
            folder.mkdir()
            url = f"sqlite:///{folder}/study.db"
            if number >= given.rounds / 2:
                server.create(f"round_{number}")
                url = server.url(f"round_{number}")
            seconds = SECONDS_APART if number % 2 == 0 else -SECONDS_APART
            findings.add(
                f"round {number}", faults_of_round(url, other_clock(library, seconds), folder), folder
            )
    return findings.finish(
        f"{given.rounds} rounds of two workers {SECONDS_APART} s apart, {N_TRIALS} trials each"
    )


if __name__ == "__main__":
    carry_out(main)
