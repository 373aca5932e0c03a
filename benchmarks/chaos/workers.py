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
    workers = [start(command, folder, env) for _ in range(N_WORKERS)]
    with ended(workers):
        kill_at_random(workers, lambda: start(command, folder, env), server, moments, restart)
        until = time.monotonic() + LIMIT_SECONDS
        while any(worker.poll() is None for worker in workers) and time.monotonic() < until:
            time.sleep(0.5)
        codes = [worker.poll() for worker in workers]
    faults = [] if set(codes) <= {0, -signal.SIGKILL} else [f"exit codes {codes}"]
    if "Traceback" in (folder / "said.txt").read_text():
        faults.append("a traceback")
    runs = runs_in(f"sqlite:///{folder}/mlflow.db")
    storage = open_study(server.url(name), name, directions=None)
    return faults + faults_of_study(storage.trials(), runs, N_TRIALS, EPOCHS)


def kill_at_random(
    workers: "list[subprocess.Popen[bytes]]",
    replacement: "Callable[[], subprocess.Popen[bytes]]",
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
        workers.append(replacement())


def main() -> int:
    given = arguments(__doc__, rounds=20)
    moments, findings = random.Random(given.seed), Findings("workers")
    with running() as server, tempfile.TemporaryDirectory() as place:
        for number in range(given.rounds):
            folder = Path(place, str(number))
            folder.mkdir()
            faults = faults_of_round(server, f"round_{number}", moments, number % 2 == 1, folder)
            findings.add(f"round {number}", faults, folder)
    restarts = given.rounds // 2
    return findings.finish(
        f"{given.rounds} rounds of {N_WORKERS} workers on {N_TRIALS} trials, {KILLS} killed in each, the "
        f"database restarted in {restarts}"
    )


if __name__ == "__main__":
    carry_out(main)
