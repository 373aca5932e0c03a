"""python benchmarks/chaos/kills.py: training runs are killed with SIGKILL until they have ended.

A kill falls at a random moment of a store's building, an epoch, a checkpoint's writing, logging or
resuming; the same command with resume=auto goes on. Weights and metrics, all but clock times, must be bit-
equal to those of a run that nobody touched, every epoch logged once, and nothing half-written left behind.
What stays by design: the lock files of the store and of MLflow's database, MLflow's temporary folders
outside, and MLflow runs that were killed before their first checkpoint. --rounds is the number of kills.
"""

import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from statistics import mean
from typing import IO, Any

import mlflow
import torch
from commands import ROOT, SAID, SMALL, Findings, arguments, environment, runs_in
from mlflow.entities import Run

COMMAND = [sys.executable, __file__, "--marked", *SMALL, "fit.epochs=4", "resume=auto", "hydra.run.dir=out"]
MARKS = "CHAOS_MARKS"
PHASES = ("store build", "training", "checkpoint", "logging", "resume")
CLOCK = ("images_per_second", "epoch_seconds", "fit_seconds", "system/")  # differ from run to run
HALF_WRITTEN = ("*.partial", ".*.pt.*", "*.tmp", "*-journal", "unsent.jsonl")


def marked() -> None:
    """train.py, telling when it enters and leaves a phase."""
    from pneumo.data import store
    from pneumo.runs import checkpoint, run_recorder
    from pneumo.runs.tracker import Tracker
    from pneumo.training.trainer import Trainer

    def tells(phase: str, owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        @wraps(call)
        def told(*given: Any, **named: Any) -> Any:
            os.write(marks, f"enter {phase}\n".encode())
            try:
                return call(*given, **named)
            finally:
                os.write(marks, f"leave {phase}\n".encode())

        setattr(owner, name, told)

    marks = int(os.environ[MARKS])
    tells("store build", store, "_build")
    tells("training", Trainer, "train_epoch")
    tells("checkpoint", checkpoint, "write")
    tells("logging", Tracker, "log")
    tells("resume", run_recorder, "resume_latest")
    sys.argv = [str(ROOT / "train.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


@contextmanager
def under_way(folder: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The process and what it tells."""
    reading, writing = os.pipe()
    env = environment(**{MARKS: str(writing)})
    with (folder / SAID).open("a") as said:
        process = subprocess.Popen(
            COMMAND, cwd=folder, env=env, pass_fds=[writing], stdout=said, stderr=said, text=True
        )
    os.close(writing)
    with os.fdopen(reading) as marks:
        try:
            yield process, marks
        finally:
            process.kill()
            process.wait()


def untouched(folder: Path) -> dict[str, float]:
    """Runs to the end; the mean seconds of each phase."""
    entered: dict[str, float] = {}
    seconds = defaultdict(list)
    with under_way(folder) as (process, marks):
        for line in marks:
            word, phase = line.strip().split(" ", 1)
            if word == "enter":
                entered[phase] = time.perf_counter()
            else:
                seconds[phase].append(time.perf_counter() - entered[phase])
        if process.wait() != 0:
            sys.exit((folder / SAID).read_text())
    return {phase: mean(taken) for phase, taken in seconds.items()}


@dataclass
class Killed:
    """A run that was killed, and what became of it."""

    kills: list[str] = field(default_factory=list)
    exit_code: int = 0

    def kill(self, folder: Path, phase: str, occurrence: int, delay: float) -> bool:
        """So long after a phase began; False where the run ended before."""
        with under_way(folder) as (process, marks):
            for line in marks:
                occurrence -= line == f"enter {phase}\n"
                if occurrence == 0:
                    time.sleep(delay)
                    process.send_signal(signal.SIGKILL)
                    inside = f"leave {phase}\n" not in marks.readlines()
                    self.kills.append(phase if inside else f"after {phase}")
                    return True
            self.exit_code = process.wait()
        return False

    def finish(self, folder: Path) -> None:
        with under_way(folder) as (process, _):
            self.exit_code = process.wait()


def finished(folder: Path) -> list[Run]:
    """The runs in a folder's MLflow that have ended."""
    if not (folder / "mlflow.db").exists():  # killed before there was one
        return []
    return [run for run in runs_in(f"sqlite:///{folder}/mlflow.db") if run.info.status == "FINISHED"]


def metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every value of every metric of an epoch, as often as it was logged, and the last value of every metric
    of the run; but clock times."""
    (run,), client = finished(folder), mlflow.MlflowClient()
    names = [name for name in run.data.metrics if not name.startswith(CLOCK)]
    histories = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in names
    }
    return {
        name: sorted(values) if max(values)[0] else [(0, run.data.metrics[name])]
        for name, values in histories.items()
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file} {name}": value
        for file in ("best.pt", "last.pt")
        for name, value in torch.load(folder / "out" / "checkpoints" / file, weights_only=True)[
            "model"
        ].items()
    }


def equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def main() -> int:
    given = arguments(__doc__, rounds=100)
    moments, findings, done, number = random.Random(given.seed), Findings("kills"), 0, 0
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "untouched")
        whole.mkdir()
        seconds = untouched(whole)
        expected = weights(whole), metrics(whole)
        while done < given.rounds:
            number += 1
            folder = Path(place, str(number))
            folder.mkdir()
            run = Killed()
            for phase in (PHASES[0], *moments.sample(PHASES[1:], 3)):
                occurrence = moments.choice((1, 2)) if phase in PHASES[1:4] else 1
                delay = moments.random() * seconds[phase]
                killed = run.kill(folder, phase, occurrence, delay)
                done += killed
                if not killed or finished(folder):  # with resume=auto, another run would begin
                    break
            else:
                run.finish(folder)
            findings.add(
                f"run {number}, killed in {', '.join(run.kills)}", faults_of(run, folder, expected), folder
            )
    return findings.finish(f"{done} kills of {number} runs, which end bit-equal to one that nobody touched")


def faults_of(
    run: Killed, folder: Path, expected: tuple[dict[str, torch.Tensor], dict[str, list[tuple[int, float]]]]
) -> list[str]:
    """What is wrong with a run that has ended at last."""
    if run.exit_code:
        return [f"exit code {run.exit_code}"]
    if len(finished(folder)) != 1:
        return [f"{len(finished(folder))} finished runs"]
    left = [str(path.relative_to(folder)) for end in HALF_WRITTEN for path in folder.rglob(end)]
    faults = [f"left behind: {', '.join(left)}"] if left else []
    if not equal_weights(weights(folder), expected[0]):
        faults.append("other weights")
    found = metrics(folder)
    differing = [
        f"{name} {found.get(name)} instead of {expected[1].get(name)}"
        for name in sorted(found | expected[1])
        if found.get(name) != expected[1].get(name)
    ]
    return faults + [f"other metrics: {one}" for one in differing]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--marked"]:
        marked()
    else:
        sys.exit(main())
