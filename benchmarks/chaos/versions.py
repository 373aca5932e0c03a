"""python benchmarks/chaos/versions.py: two commands on one study, one of an older version of pneumo.

The older version is an earlier commit of this repository, unpacked into a folder of its own. In the first
round of each commit it begins the study and this version goes on, in the second it is the other way round,
in the third both work at the same time. Either both work together, to exactly the trials that were asked
for, or one is refused in one line.
"""

import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from commands import ROOT, SAID, Findings, arguments, ended, environment, runs_in, start, sweep
from optuna.trial import TrialState

from pneumo.sweep.storage import open_study

BACK = (60, 120, 180)  # commits
N_TRIALS, EPOCHS = 4, 3
LIMIT_SECONDS = 900


def unpacked(commit: str, folder: Path) -> Path:
    """The folder of a commit's files."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
    if archive.returncode:
        sys.exit(f"an older version needs the history of the repository: {archive.stderr.decode()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def faults_of_round(older: Path, order: str, folder: Path) -> tuple[list[str], bool]:
    """What is wrong after a round in a new folder, and whether a version was refused."""
    n_trials = {"older first": (2, N_TRIALS), "newer first": (N_TRIALS, 2), "at once": (N_TRIALS, N_TRIALS)}[
        order
    ]
    stores = str(folder.parent / "stores")
    env = environment(PNEUMO_STORES=stores)
    commands = [
        (
            sweep(f"n_trials={n_trials[0]}", f"fit.epochs={EPOCHS}", "study=s", root=older),
            env | {"PYTHONPATH": str(older)},
        ),
        (sweep(f"n_trials={n_trials[1]}", f"fit.epochs={EPOCHS}", "study=s"), env),
    ]
    if order == "newer first":
        commands.reverse()
    processes: list[subprocess.Popen[bytes]] = []
    with ended(processes):
        for number, (command, own) in enumerate(commands):
            processes.append(start(command, folder, own, f"said-{number}.txt"))
            if order != "at once":
                processes[-1].wait(LIMIT_SECONDS)
        codes = [process.wait(LIMIT_SECONDS) for process in processes]
    words = [(folder / f"said-{number}.txt").read_text(errors="replace") for number in range(2)]
    (folder / SAID).write_text("\n--- the second\n".join(words))
    faults = ["a traceback"] if any("Traceback" in text for text in words) else []
    if any(code not in (0, 1) for code in codes):
        faults.append(f"exit codes {codes}")
    if codes == [1, 1]:
        faults.append("both were refused")
    trials = open_study(f"sqlite:///{folder}/study.db", "s", directions=None).trials()
    done = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    if done != N_TRIALS and codes == [0, 0]:
        faults.append(f"{done} trials instead of {N_TRIALS}")
    if open_runs := [
        run.info.run_name for run in runs_in(f"sqlite:///{folder}/mlflow.db") if run.info.status == "RUNNING"
    ]:
        faults.append(f"runs {open_runs} are RUNNING")
    return faults, any(codes)


def main() -> int:
    given = arguments(__doc__, rounds=len(BACK) * 3)
    findings, refused = Findings("versions"), 0
    with tempfile.TemporaryDirectory() as place:
        for number in range(given.rounds):
            back = BACK[number // 3 % len(BACK)]
            older = Path(place, f"pneumo-{back}")
            if not older.exists():
                unpacked(f"HEAD~{back}", older)
            order = ("older first", "newer first", "at once")[number % 3]
            folder = Path(place, str(number))
            folder.mkdir()
            faults, was_refused = faults_of_round(older, order, folder)
            refused += was_refused
            findings.add(f"{order}, {back} commits older", faults, folder)
    return findings.finish(f"{given.rounds} rounds, one of the versions refused in {refused}")


if __name__ == "__main__":
    sys.exit(main())
