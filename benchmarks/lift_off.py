"""python benchmarks/lift_off.py: how soon the default run has a validation AUROC of .95 on its own phantom.

Seconds from the command to the end of the first epoch that reaches it, with the store built, compared with
the default of version 0.1 (nine epochs, augment=safe, no masks, a wider first convolution). The two sides of
a seed train at the same time, each on one thread, so that both have the same machine; the medians are over
the seeds, and a run that never gets there counts as infinity."""

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import mlflow
import numpy as np
from panel import ALONE, BEFORE
from rows import Row, end
from runs import trained

AUROC, SEEDS = 0.95, 5
SIDES = {"now": [], "before": [*BEFORE, ALONE]}


def seconds(folder: Path, overrides: list[str]) -> float:
    """From the command to that AUROC."""
    started = time.time()
    trained(folder, "fit.test=false", "fit.pictures=false", *overrides)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
    points = client.get_metric_history(run.info.run_id, "val/auroc")
    return min((point.timestamp / 1000 - started for point in points if point.value >= AUROC), default=np.inf)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(len(SIDES)) as pool:
        trained(Path(temporary, "store"), "fit.few_images=2", "fit.epochs=1", "fit.pictures=false")
        for seed in range(options.seeds):
            running = {
                side: pool.submit(seconds, Path(temporary, f"{side}-{seed}"), [*overrides, f"seed={seed}"])
                for side, overrides in SIDES.items()
            }
            for side, future in running.items():
                found[side].append(future.result())
            print(
                {side: round(values[-1]) for side, values in found.items() if np.isfinite(values[-1])},
                flush=True,
            )
    now, before = (median(values) for values in found.values())
    what = f"from the command to a val AUROC of {AUROC:g}, s (median of {options.seeds} seeds)"
    never = [sum(np.isinf(values)) for values in found.values()]
    end(
        [Row(what, f"{now:.0f}", f"default of 0.1 {before:.0f}", now / before, at_most=0.5)],
        f"never reached by {never[0]} seeds now, by {never[1]} before",
    )


if __name__ == "__main__":
    main()
