"""python benchmarks/start.py: seconds until the first answer of a command, and until the first step of a run.

Each command is a process of its own, in an empty folder; the figures are medians. The first step is that
of the default run with its pixels in the store and its MLflow database there; the run ends after it.
Seconds of the processor are given beside it, since other work on the machine lengthens the first number
alone. A command that ends with another exit code than it should stops the script."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rows import Row, end
from runs import ROOT, surroundings, trained

ROUNDS = 3
TRAIN = [str(ROOT / "train.py")]
VERB = ["-c", "from pneumo.cli.app import main; main()"]
COMMANDS = {  # and the exit code of each
    "train.py --help": ([*TRAIN, "--help"], 0),
    "train.py loss=bcee, refused": ([*TRAIN, "loss=bcee"], 1),
    "train.py optimizer.lr=-1, refused": ([*TRAIN, "optimizer.lr=-1"], 1),
    "train.py fit.epoch=2, refused": ([*TRAIN, "fit.epoch=2"], 1),
    "pneumo --help": ([*VERB, "--help"], 0),
    "pneumo evaluate nosuchrun, refused": ([*VERB, "evaluate", "nosuchrun"], 1),
}
BEHIND_TORCH = [*TRAIN, "model.dropout=2"]  # models, losses and augmentations are torch modules
FIRST_STEP = """
import os
from pneumo.cli.train import main
from pneumo.training.trainer import Trainer
step = Trainer.step
def first(*given):
    step(*given)
    os._exit(0)
Trainer.step = first
main()
"""
AT_MOST, AT_MOST_FIRST_STEP = 2, 8  # seconds


def took(command: list[str], code: int, folder: Path) -> tuple[float, float]:
    """Median seconds of a command, on the clock and of the processor. Ends the script where its exit code is
    another one."""
    rounds = []
    for _ in range(ROUNDS):
        used, began = processor_seconds(), time.perf_counter()
        environment = surroundings(PNEUMO_STORES=str(folder.parent / "stores"), PYTHONPATH=str(ROOT))
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
        )
        rounds.append((time.perf_counter() - began, processor_seconds() - used))
        if done.returncode != code:
            sys.exit(f"{command} ended with {done.returncode}, not {code}:\n{done.stderr[-4000:]}")
    clock, processor = zip(*rounds, strict=True)
    return median(clock), median(processor)


def processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(what: str, seconds: tuple[float, float], at_most: float | None) -> Row:
    return Row(f"{what}, s", f"{seconds[0]:.1f}", f"processor {seconds[1]:.1f}", seconds[0], at_most=at_most)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "run")
        trained(folder, "fit.epochs=1", "fit.test=false", "fit.pictures=false")
        rows = [row(what, took(*command, folder), AT_MOST) for what, command in COMMANDS.items()]
        rows.append(row("train.py model.dropout=2, refused", took(BEHIND_TORCH, 1, folder), None))
        first = took(["-c", FIRST_STEP, "fit.pictures=false"], 0, folder)
        rows.append(row("first step of the default run, its pixels in the store", first, AT_MOST_FIRST_STEP))
    end(rows)


if __name__ == "__main__":
    main()
