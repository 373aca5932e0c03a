"""python benchmarks/chaos/sleeper.py: a worker is suspended with SIGSTOP for longer than its heartbeat.

It is stopped at a random moment of its trial, on PostgreSQL, and another worker goes on with the trial; the
sleeper is woken while its successor trains, or after that has ended. The successor must win: one trial, one
run, every epoch logged once, checkpoints of the successor alone. A sleeper that holds a lock of a database
takes all others with it until it wakes; such a moment is waited out.
"""

import random
import signal
import tempfile
import time
from collections.abc import Callable
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
from mlflow.entities import Run
from postgres import Server, running

from pneumo.errors import InputError
from pneumo.runs import checkpoint
from pneumo.sweep.attributes import PROCESS
from pneumo.sweep.storage import StudyStorage, open_study

EPOCHS, LIMIT_SECONDS, LONGEST_SLEEP_SECONDS = 60, 300, 45


def until(happened: Callable[[], object], seconds: float = LIMIT_SECONDS) -> bool:
    """Whether it has happened within so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def trained_by(url: str, pid: int, epochs: int) -> bool:
    """Whether that process has reported so many epochs of a trial of the study."""
    try:
        storage = open_study(url, "s", directions=None)
    except InputError:  # not there yet
        return False
    return any(
        f":{pid}:" in trial.user_attrs.get(PROCESS, "") and (trial.last_step or 0) >= epochs
        for trial in storage.trials()
    )


def faults_of_round(
    server: Server, name: str, moments: random.Random, folder: Path
) -> tuple[list[str], bool]:
    """What is wrong after a round in a new folder, and whether the sleeper had a successor."""
    server.create(name)
    url = server.url(name)
    env = environment(PNEUMO_STORAGE=url, PNEUMO_STORES=str(folder.parent / "stores"))
    command = sweep("n_trials=1", f"fit.epochs={EPOCHS}", "study=s")
    workers = [start(command, folder, env)]
    with ended(workers):
        sleeper = workers[0]
        if not until(lambda: trained_by(url, sleeper.pid, moments.randint(1, EPOCHS // 3))):
            return ["no epoch was trained"], False
        time.sleep(moments.random())
        sleeper.send_signal(signal.SIGSTOP)
        successor = start(command, folder, env)
        workers.append(successor)
        goes_on = until(lambda: trained_by(url, successor.pid, 1), LONGEST_SLEEP_SECONDS)
        if goes_on and moments.random() < 0.5:
            until(lambda: successor.poll() is not None)
        sleeper.send_signal(signal.SIGCONT)
        codes = [worker.wait(LIMIT_SECONDS) for worker in workers]
    faults = [f"exit codes {codes}"] if any(codes) else []
    runs = runs_in(f"sqlite:///{folder}/mlflow.db")
    return faults + faults_of_study(trials(url).trials(), runs, 1, EPOCHS) + faults_of_checkpoint(
        runs
    ), goes_on


def trials(url: str) -> StudyStorage:
    return open_study(url, "s", directions=None)


def faults_of_checkpoint(runs: list[Run]) -> list[str]:
    """Whether the last checkpoint is one of all epochs."""
    folders = [run.data.tags["checkpoints"] for run in runs if "checkpoints" in run.data.tags]
    lengths = [len(checkpoint.read(Path(folder, checkpoint.LAST))["history"]) for folder in folders]
    return [] if lengths == [EPOCHS] else [f"checkpoints of {lengths} epochs"]


def main() -> int:
    given = arguments(__doc__, rounds=10)
    moments, findings, superseded = random.Random(given.seed), Findings("sleeper"), 0
    with running() as server, tempfile.TemporaryDirectory() as place:
        for number in range(given.rounds):
            folder = Path(place, str(number))
            folder.mkdir()
            faults, goes_on = faults_of_round(server, f"round_{number}", moments, folder)
            superseded += goes_on
            findings.add(f"round {number}", faults, folder)
    return findings.finish(f"{given.rounds} rounds, {superseded} sleepers had a successor")


if __name__ == "__main__":
    carry_out(main)
