"""python benchmarks/lift_off.py: how soon the default run has a validation AUROC of .95 on its own phantom.

Seconds from the command to the end of the first epoch that reaches it, with the store built, compared with
the default of version 0.1 (nine epochs, augment=safe, no masks, a wider first convolution). The two sides of
a seed train at the same time, each on one thread, so that both have the same machine, and are stopped when
both have reached it; the medians are over the seeds, and a run that never gets there counts as infinity."""

import argparse
import math
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from panel import ALONE, BEFORE
from rows import Row, end
from runs import ROOT, surroundings, trained

AUROC, SEEDS = 0.95, 5
SIDES = {"now": [], "before": [*BEFORE, ALONE]}
POLL_SECONDS = 0.5
FIRST = "SELECT MIN(timestamp) / 1000.0 FROM metrics WHERE key = 'val/auroc' AND value >= ?"


def started(folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    folder.mkdir()
    environment = surroundings(
        PNEUMO_STORES=str(folder.parent / "stores"), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"
    )
    command = [sys.executable, str(ROOT / "train.py"), "fit.test=false", "fit.pictures=false", *overrides]
    with (folder / "printed.txt").open("w") as printed:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT
        )


def reached(folder: Path) -> float | None:
    """When a run of this folder has logged that AUROC first, in seconds since 1970; None if it has not."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True)) as database:
            ((when,),) = database.execute(FIRST, (AUROC,))
    except sqlite3.OperationalError:  # not there yet, or being made
        return None
    return None if when is None else float(when)


def seconds(folder: Path, seed: int) -> dict[str, float]:
    """Of each side, from its command to that AUROC."""
    began = time.time()
    folders = {side: folder / f"{side}-{seed}" for side in SIDES}
    runs = {side: started(folders[side], [*words, f"seed={seed}"]) for side, words in SIDES.items()}
    while any(run.poll() is None and reached(folders[side]) is None for side, run in runs.items()):
        time.sleep(POLL_SECONDS)
    for side, run in runs.items():
        run.terminate()
        if run.wait() not in (0, 130, -signal.SIGTERM):
            sys.exit((folders[side] / "printed.txt").read_text()[-4000:])
    moments = {side: reached(folders[side]) for side in SIDES}
    return {side: math.inf if moment is None else moment - began for side, moment in moments.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as temporary:
        trained(Path(temporary, "store"), "fit.few_images=2", "fit.epochs=1", "fit.pictures=false")
        for seed in range(options.seeds):
            for side, value in seconds(Path(temporary), seed).items():
                found[side].append(value)
                print(f"seed {seed}, {side}: {value:.0f} s", flush=True)
    now, before = (median(values) for values in found.values())
    what = f"from the command to a val AUROC of {AUROC:g}, s (median of {options.seeds} seeds)"
    never = [sum(map(math.isinf, values)) for values in found.values()]
    end(
        [Row(what, f"{now:.0f}", f"default of 0.1 {before:.0f}", now / before, at_most=0.5)],
        f"never reached by {never[0]} seeds now, by {never[1]} before",
    )


if __name__ == "__main__":
    main()
