"""python benchmarks/chaos/workers.py: four workers share 24 trials on PostgreSQL while they are killed.

In every round six workers are killed with SIGKILL at random moments and replaced; in every other round the
database goes down with them, as if its machine had lost its power, and comes back after some seconds. In
the end there must be exactly 24 trials, none lost and none done twice, each with its whole MLflow run, and
no run that is still RUNNING. The server is a throw-away one on loopback, from Debian's package.
"""

import random
import signal
import subprocess
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
from postgres import Server, running

from pneumo.sweep.storage import open_study

N_WORKERS, N_TRIALS, EPOCHS, KILLS = 4, 24, 3, 6
LIMIT_SECONDS = 1200  # of a round; a busy machine takes four minutes


def faults_of_round(
    server: Server, name: str, moments: random.Random, restart: bool, folder: Path
) -> list[str]:
    """What is wrong after a round in a new folder, with a study in a new database."""
    server.create(name)
    env = environment(PNEUMO_STORAGE=server.url(name), PNEUMO_STORES=str(folder.parent / "stores"))
    command = sweep(f"n_trials={N_TRIALS}", f"fit.epochs={EPOCHS}", f"study={name}")
    workers: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        workers.append(start(command, folder, env, words_of(len(workers), folder).name))

    for _ in range(N_WORKERS):
        begin()
    with ended(workers):
        kill_at_random(workers, begin, server, moments, restart)
        until = time.monotonic() + LIMIT_SECONDS
        while any(worker.poll() is None for worker in workers) and time.monotonic() < until:
            time.sleep(0.5)
        codes = [worker.poll() for worker in workers]
    faults = [
        fault
        for number, code in enumerate(codes)
        for fault in faults_of_worker(code, words_of(number, folder).read_text(), restart)
    ]
    runs = runs_in(f"sqlite:///{folder}/mlflow.db")
    storage = open_study(server.url(name), name, directions=None)
    return faults + faults_of_study(storage.trials(), runs, N_TRIALS, EPOCHS)


def words_of(worker: int, folder: Path) -> Path:
    """The file of what a worker says."""
    return folder / f"worker_{worker}.txt"


def faults_of_worker(code: int | None, said: str, restart: bool) -> list[str]:
    """What is wrong with a worker's end. One that starts while the database is away may refuse in a line."""
    last = said.strip().rpartition("\n")[2]
    refused = restart and code == 1 and "cannot be reached" in last
    faults = [] if code in (0, -signal.SIGKILL) or refused else [f"exit code {code}: ...{said[-3000:]}"]
    return faults + (["a traceback"] if "Traceback" in said else [])


def kill_at_random(
    workers: "list[subprocess.Popen[bytes]]",
    begin: Callable[[], None],
    server: Server,
    moments: random.Random,
    restart: bool,
) -> None:
    """Kills six of the workers one after the other, and starts one for each."""
    goes_down = moments.randrange(KILLS) if restart else None
    for number in range(KILLS):
        time.sleep(moments.uniform(2, 12))
        alive = [worker for worker in workers if worker.poll() is None]
        if not alive:
            return
        moments.choice(alive).kill()
        if number == goes_down:
            server.stop()
            time.sleep(moments.uniform(0, 8))
            server.start()
        begin()


def main() -> int:
    given = arguments(__doc__, rounds=20)
    moments, findings = random.Random(given.seed), Findings("workers")
    with running() as server, tempfile.TemporaryDirectory() as place:
        for number in range(given.rounds):
            folder = Path(place, str(number))
            folder.mkdir()
            faults = faults_of_round(server, f"round_{number}", moments, number % 2 == 1, folder)
            findings.add(f"round {number}", faults)
    restarts = given.rounds // 2
    return findings.finish(
        f"{given.rounds} rounds of {N_WORKERS} workers on {N_TRIALS} trials, {KILLS} killed in each, the "
        f"database restarted in {restarts}"
    )


if __name__ == "__main__":
    carry_out(main)
