"""python benchmarks/two_processes.py: two trainings at once on the same cores.

Steps of batch 6 of the default model at 128 px with augment=safe, each training a process of its own: alone
with one thread, alone with a thread for each core, and two of these at once, of which the slower counts.
Threads that wait for each other spin, as libgomp's do by default, or sleep (OMP_WAIT_POLICY=passive). All
take turns of a second; the figures are medians of the turns."""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from rows import Row, end
from runs import ROOT

TURNS, SECONDS = 12, 1.0
BATCH, STEPS = 6, 2
SIDES = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "spin": {},
    "sleep": {"OMP_WAIT_POLICY": "passive"},
}


class Training:
    """A process that trains for a time whenever it is asked to."""

    def __init__(self, variables: dict[str, str]) -> None:
        others = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        environment = {**others, "PYTHONPATH": str(ROOT), **variables}
        command = [sys.executable, str(Path(__file__).resolve()), "train"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def images_a_second(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def train() -> None:
    """The process of a training."""
    from step import SAFE, drawn, ours

    from pneumo.components.models import Tiny

    n = BATCH * STEPS
    epoch = ours(Tiny(), *drawn(n, 128), BATCH, SAFE)
    epoch()
    print("ready", flush=True)
    for _ in sys.stdin:
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            epoch()
            images += n
        print(images / (time.perf_counter() - began), flush=True)


def measured(trainings: list[Training]) -> float:
    """Images a second of the slowest of some trainings at once."""
    for training in trainings:
        training.begin()
    return min([training.images_a_second() for training in trainings])


def main() -> None:
    load = [os.getloadavg()[0]]
    trainings = {name: [Training(variables) for _ in range(2)] for name, variables in SIDES.items()}
    cases = {(name, count): both[:count] for name, both in trainings.items() for count in (1, 2)}
    rates: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for turn in range(TURNS):
        for case, both in list(cases.items())[:: -1 if turn % 2 else 1]:
            rates[case].append(measured(both))
    load.append(os.getloadavg()[0])
    for both in trainings.values():
        for training in both:
            training.close()
    rate = {case: median(values) for case, values in rates.items()}
    cores = os.cpu_count()

    def row(
        what: str, name: str, count: int, other: str, against: tuple[str, int], least: float | None
    ) -> Row:
        ours, theirs = rate[name, count], rate[against]
        return Row(what, f"{ours:.0f}", f"{other} {theirs:.0f}", ours / theirs, at_least=least)

    idle, steps = ("one thread", 1), f"batch {BATCH}, tiny, 128 px, {cores} threads, images/s"
    end(
        [
            row(steps, "spin", 1, "one thread", idle, None),
            row("the same, threads sleeping", "sleep", 1, "spinning", ("spin", 1), None),
            row("each of two such at once", "spin", 2, "one thread alone", idle, 0.6),
            row("the same, threads sleeping", "sleep", 2, "one thread alone", idle, None),
            row("the same, one thread each", "one thread", 2, "one thread alone", idle, None),
        ],
        f"medians of {TURNS} turns; load of the machine {load[0]:.1f} before and {load[1]:.1f} after",
    )


if __name__ == "__main__":
    train() if sys.argv[1:] == ["train"] else main()
