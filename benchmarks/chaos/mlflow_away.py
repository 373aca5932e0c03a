"""python benchmarks/chaos/mlflow_away.py: MLflow's server goes away for 60 s in the middle of a run or study.

In even rounds of each kind it comes back with what it had: nothing may be lost. In odd rounds it comes back
with an empty disk: the command must tell so, end with one line, and lose no checkpoint; the same command
again (resume=auto for a run) must end well, or say in one line why it cannot.
"""

import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, chdir
from pathlib import Path

from commands import (
    ROOT,
    SAID,
    SMALL,
    Findings,
    arguments,
    carry_out,
    ended,
    environment,
    faults_of_study,
    logged_epochs,
    runs_in,
    start,
    sweep,
)
from mlflow_server import kill, serving
from postgres import free_port

IMAGES = "data.n_images=2000"  # so that a run takes longer than MLflow is away
AWAY_SECONDS, EPOCHS = 60, 50
TRIAL_EPOCHS, N_TRIALS = 15, 4
LIMIT_SECONDS = 1800


def wait_for(text: str, folder: Path, process: "subprocess.Popen[bytes]") -> bool:
    """Whether the command has said this before it ended."""
    while text not in (folder / SAID).read_text(errors="replace"):
        if process.poll() is not None:
            return False
        time.sleep(0.2)
    return True


def faults_of_round(study: bool, emptied: bool, moments: random.Random, folder: Path) -> list[str]:
    """What is wrong after a round in a new folder."""
    port = free_port()
    tracking = f"http://127.0.0.1:{port}"
    env = environment(MLFLOW_TRACKING_URI=tracking, PNEUMO_STORES=str(folder.parent / "stores"))
    train = [
        sys.executable,
        "-u",
        str(ROOT / "train.py"),
        *SMALL,
        IMAGES,
        f"fit.epochs={EPOCHS}",
        "resume=auto",
    ]
    command = (
        sweep(IMAGES, f"n_trials={N_TRIALS}", f"fit.epochs={TRIAL_EPOCHS}", "study=s") if study else train
    )
    before, after = folder / "server", folder / ("empty" if emptied else "server")
    before.mkdir()
    after.mkdir(exist_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    with ended(processes), ExitStack() as stack:
        with chdir(before):
            server = stack.enter_context(serving(port))
        process = start(command, folder, env)
        processes.append(process)
        if not wait_for(" #0" if study else f" 2/{EPOCHS}", folder, process):
            return ["never began"]
        time.sleep(moments.uniform(0, 5))
        kill(server)
        time.sleep(AWAY_SECONDS)
        with chdir(after):
            stack.enter_context(serving(port))
        code = process.wait(LIMIT_SECONDS)
        text = (folder / SAID).read_text(errors="replace")
        faults = faults_of_end(code, text, emptied)
        if code:
            (folder / SAID).write_bytes(b"")
            code = start(command, folder, env).wait(LIMIT_SECONDS)
            again = (folder / SAID).read_text(errors="replace")
            (folder / SAID).write_text(f"{text[-3000:]}\n--- again\n{again}")
            if code:
                faults.append(f"again ends with {code}: {again[-300:]}")
            if "Traceback" in again:
                faults.append("again a traceback")
        runs = runs_in(tracking)
        if study:
            from pneumo.sweep.storage import open_study

            trials = open_study(f"sqlite:///{folder}/study.db", "s", directions=None).trials()
            of_study = faults_of_study(trials, runs, N_TRIALS, TRIAL_EPOCHS)
            told = emptied and "stays in the study without its runs" in (folder / SAID).read_text()
            return faults + [fault for fault in of_study if not (told and fault.endswith(" has no run"))]
        whole = [run for run in runs if run.info.status == "FINISHED"]
        if len(whole) != 1 or logged_epochs(whole[0].info.run_id) != list(range(1, EPOCHS + 1)):
            faults.append(f"not one whole run: {[(run.info.run_name, run.info.status) for run in runs]}")
        return faults


def faults_of_end(code: int, text: str, emptied: bool) -> list[str]:
    faults = ["a traceback"] if "Traceback" in text else []
    if code not in ((0, 1) if emptied else (0,)):
        faults.append(f"exit code {code}")
    if emptied and not code:
        faults.append("an empty MLflow was not told")
    return faults


def main() -> int:
    given = arguments(__doc__, rounds=4)
    moments, findings = random.Random(given.seed), Findings("mlflow")
    with tempfile.TemporaryDirectory() as place:
        for number in range(given.rounds):
            folder = Path(place, str(number))
            folder.mkdir()
            (folder / SAID).touch()
            study, emptied = number % 4 >= 2, number % 2 == 1
            faults = faults_of_round(study, emptied, moments, folder)
            kind = f"a {'study' if study else 'run'}{', emptied' if emptied else ''}"
            findings.add(f"round {number}, {kind}", faults, folder)
    return findings.finish(
        f"{given.rounds} rounds, the server away for {AWAY_SECONDS} s, emptied in every other"
    )


if __name__ == "__main__":
    carry_out(main)
