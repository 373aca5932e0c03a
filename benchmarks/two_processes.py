"""python benchmarks/two_processes.py: two trainings at once on the same cores.

Steps of batch 6 of the default model, without masks, at 128 px with augment=safe, each training a
process of its own: alone with one thread, alone with more, and two at once, of which the slower
counts. Threads beyond one are as many as cores are free, as in a run of train.py, or always as many as
there are cores. All take turns of eight seconds in the same two processes, of which the last four
count; the figures are medians of the turns."""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from rows import Row, end
from runs import ROOT

TURNS, SECONDS, UNCOUNTED = 8, 4.0, 4.0
BATCH, STEPS = 6, 2
ONE, FREE, ALL = "one", "free", "all"  # threads: one, as many as cores are free, as many as cores


class Training:
    """A process that trains for a time whenever it is asked to."""

    def __init__(self) -> None:
        others = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        environment = {**others, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(Path(__file__).resolve()), "train"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def begin(self, threads: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{threads}\n")
        self.process.stdin.flush()

    def images_a_second(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def train() -> None:
    """The process of a training."""
    import torch
    from step import SAFE, drawn, ours

    from pneumo.components.models import Tiny
    from pneumo.training.cpu_threads import ThreadLimiter

    n, cores = BATCH * STEPS, torch.get_num_threads()
    epoch = ours(Tiny(stem_width=8), *drawn(n, 128), BATCH, SAFE)
    epoch()

    def trained(seconds: float, limiter: ThreadLimiter | None) -> float:
        """Images a second."""
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            epoch()
            images += n
            if limiter:
                limiter.after_batch()
        return images / (time.perf_counter() - began)

    print("ready", flush=True)
    for line in sys.stdin:
        threads = line.strip()
        torch.set_num_threads(1 if threads == ONE else cores)
        limiter = ThreadLimiter(lambda threads, most: None) if threads == FREE else None
        trained(UNCOUNTED, limiter)
        print(trained(SECONDS, limiter), flush=True)


def measured(threads: str, trainings: list[Training]) -> float:
    """Images a second of the slowest of some trainings at once."""
    for training in trainings:
        training.begin(threads)
    return min([training.images_a_second() for training in trainings])


def main() -> None:
    load = [os.getloadavg()[0]]
    trainings = [Training(), Training()]
    cases = [(threads, count) for threads in (ONE, FREE, ALL) for count in (1, 2)]
    rates: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for turn in range(TURNS):
        for threads, count in cases[:: -1 if turn % 2 else 1]:
            rates[threads, count].append(measured(threads, trainings[:count]))
    load.append(os.getloadavg()[0])
    for training in trainings:
        training.close()
    rate = {case: median(values) for case, values in rates.items()}

    def row(what: str, side: str, count: int, other: str, against: str, least: float | None) -> Row:
        ours, theirs = rate[side, count], rate[against, 1]
        return Row(what, f"{ours:.0f}", f"{other} {theirs:.0f}", ours / theirs, at_least=least)

    alone = f"batch {BATCH}, tiny, 128 px, alone on {os.cpu_count()} cores, images/s"
    end(
        [
            row(alone, FREE, 1, "always a thread a core", ALL, 0.97),
            row("the same", FREE, 1, "one thread", ONE, None),
            row("each of two such at once", FREE, 2, "one thread alone", ONE, 0.6),
            row("the same, always a thread a core", ALL, 2, "one thread alone", ONE, None),
            row("the same, one thread each", ONE, 2, "one thread alone", ONE, None),
        ],
        f"medians of {TURNS} turns; load of the machine {load[0]:.1f} before and {load[1]:.1f} after",
    )


if __name__ == "__main__":
    train() if sys.argv[1:] == ["train"] else main()
