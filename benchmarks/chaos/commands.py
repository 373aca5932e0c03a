"""What the campaigns share: their options, the commands that they start, what they look at, and the line that
each ends with."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # the servers that the tests start as well

OURS = ("PNEUMO_", "MLFLOW_")
SMALL = ["data.n_images=160", "data.image_side_px=64", "model.width=4", "fit.pictures=false"]
TRIALS = [
    *SMALL,
    "loss=bce",
    "fit.batch_size=32",
    "fit.accumulation_steps=1",
    "pruner=none",
]  # lr is searched
HEARTBEAT_SECONDS = 2
SAID = "said.txt"


def arguments(about: str, rounds: int) -> argparse.Namespace:
    """--rounds and --seed; `about` is the campaign's docstring."""
    parser = argparse.ArgumentParser(description=about.split(": ", 1)[1].split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def environment(**more: str) -> dict[str, str]:
    """Of the commands: this checkout, one thread, and no settings of this shell."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    settled = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}
    return kept | settled | more


def sweep(*overrides: str, root: Path = ROOT) -> list[str]:
    """One worker's command on a small study."""
    heartbeat = f"hydra.sweeper.heartbeat_seconds={HEARTBEAT_SECONDS}"
    return [sys.executable, str(root / "sweep.py"), "-m", "workers=1", heartbeat, *TRIALS, *overrides]


def start(
    command: Sequence[str], folder: Path, env: Mapping[str, str], file: str = SAID
) -> "subprocess.Popen[bytes]":
    """The command under way in a folder; what it says goes to a file there."""
    with (folder / file).open("ab") as said:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said)


@contextmanager
def ended(processes: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """After the block, none of the processes is there any more."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def runs_in(tracking: str) -> list[Run]:
    """All runs of an MLflow store."""
    mlflow.set_tracking_uri(tracking)
    return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


def logged_epochs(run_id: str) -> list[int]:
    """In the order in which MLflow was told of them."""
    history = mlflow.MlflowClient().get_metric_history(run_id, "val/auroc")
    return [value.step for value in sorted(history, key=lambda value: value.timestamp)]


def faults_of_study(
    trials: Sequence[FrozenTrial], runs: Sequence[Run], n_trials: int, epochs: int
) -> list[str]:
    """What is wrong with a study that is done: trials lost or doubled, or a run that is not whole. `runs` are
    all that MLflow has, which has to be connected."""
    done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    faults = [f"{len(done)} trials instead of {n_trials}"] if len(done) != n_trials else []
    open_ones = [trial.number for trial in trials if not trial.state.is_finished()]
    if open_ones:
        faults.append(f"trials {open_ones} are neither done nor failed")
    origins = [trial.user_attrs.get("attempts", [trial.number])[0] for trial in done]
    if len(set(origins)) != len(origins):
        faults.append(f"trials done twice: {sorted(origins)}")
    by_id = {run.info.run_id: run for run in runs}
    for trial in done:
        run = by_id.get(trial.user_attrs.get("run_id", ""))
        if run is None:
            faults.append(f"trial {trial.number} has no run")
            continue
        if (run.info.status, run.data.tags.get("state")) != ("FINISHED", "complete"):
            faults.append(
                f"the run of trial {trial.number} is {run.info.status}, {run.data.tags.get('state')}"
            )
        if (logged := logged_epochs(run.info.run_id)) != list(range(1, epochs + 1)):
            faults.append(f"the run of trial {trial.number} has the epochs {logged}")
        if run.data.metrics.get("best/val_auroc") != trial.value:
            faults.append(f"the run of trial {trial.number} has another value than the trial")
        files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        if "checkpoints" not in files:
            faults.append(f"the run of trial {trial.number} has no checkpoints: {sorted(files)}")
    open_runs = [run.info.run_name for run in runs if run.info.status == "RUNNING"]
    return faults + ([f"runs {open_runs} are RUNNING"] if open_runs else [])


@dataclass
class Findings:
    """What a campaign has done so far, and what was wrong."""

    name: str
    faults: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, where: str, faults: Sequence[str], folder: Path | None = None) -> None:
        """Faults of a round, with the end of what its commands said."""
        for fault in faults:
            self.faults.append(f"{where}: {fault}")
            print(f"  {where}: {fault}", flush=True)
        if faults and folder and (folder / SAID).exists():
            print((folder / SAID).read_text(errors="replace")[-3000:], flush=True)

    def finish(self, done: str) -> int:
        """Prints the campaign's line; returns the exit code."""
        minutes = (time.monotonic() - self.began) / 60
        found = f"{len(self.faults)} faults" if self.faults else "no fault"
        print(f"{self.name:<10} {done} · {found} · {minutes:.1f} min", flush=True)
        return int(bool(self.faults))


def carry_out(campaign: Callable[[], int]) -> None:
    """Exits with the code of the campaign. On SIGTERM its servers and disks end with it."""
    from postgres import NotInstalledError  # among the tests, see above

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(campaign())
    except NotInstalledError as error:
        sys.exit(str(error))
