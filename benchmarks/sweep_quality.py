"""python benchmarks/sweep_quality.py: how soon ours is as good as hydra-optuna-sweeper has become at its end.

Same space (search=report), images, epochs and seeds, one process each. The stock sweeper carries 20 trials
out in full, with its own TPE. Ours begins with the report's trial, samples jointly and prunes; what counts
are its seconds, start of the process included, to the first trial at least as good as the best of the
stock's, over the stock's seconds in all. A search that gained nothing would pass another's best too, now and
then, about half way: hence the seconds after which the stock sweeper itself had its best.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import mlflow
import optuna
import yaml
from hydra import compose, initialize_config_dir
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table
from runs import ROOT, surroundings

from pneumo.data.dataset import load_dataset
from pneumo.runs import config

AT_MOST = 0.5
STUDY = "outputs/studies/report"


@dataclass(frozen=True)
class Stock:
    best: float
    best_after_seconds: float
    seconds: float


@dataclass(frozen=True)
class Ours:
    """`reached`: when, in which trial, of how many; never: infinity and the best there was."""

    seconds: float
    trial: int | None
    n_trials: int
    best: float


def sweep(folder: Path, *overrides: str) -> tuple[float, float]:
    """The time when it began, and its seconds."""
    command = [sys.executable, str(ROOT / "sweep.py"), "-m", *overrides]
    began = time.time()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.time() - began
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    return began, seconds


def stock(folder: Path, n_trials: int, overrides: Sequence[str]) -> Stock:
    began, seconds = sweep(folder, "hydra/sweeper=optuna", f"n_trials={n_trials}", *overrides)
    best = yaml.safe_load((folder / STUDY / "optimization_results.yaml").read_text())["best_value"]
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    there = [run.info.end_time for run in runs if run.data.metrics.get("best/val_auroc", 0) >= best]
    return Stock(best, min(there) / 1000 - began, seconds)


def ours(folder: Path, n_trials: int, goal: float, overrides: Sequence[str]) -> Ours:
    """Twice as many trials where so many do not reach the goal."""
    before = 0.0
    for n in (n_trials, 2 * n_trials):
        began, seconds = sweep(folder, f"n_trials={n}", *overrides)
        study = optuna.load_study(study_name="report", storage=f"sqlite:///{folder / 'study.db'}")
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        complete.sort(key=lambda trial: trial.datetime_complete or datetime.max)
        best = max(trial.values[0] for trial in complete)
        for trial in complete:
            if trial.values[0] >= goal and trial.datetime_complete is not None:
                return Ours(before + trial.datetime_complete.timestamp() - began, trial.number, n, best)
        before += seconds
    return Ours(math.inf, None, n, best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1400)
    parser.add_argument("--epochs", type=int, help="default: as in conf/train.yaml")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="of both sides")
    options = parser.parse_args()
    both = [f"data.n_images={options.images}", *options.overrides]
    both += [f"fit.epochs={options.epochs}"] if options.epochs else []

    columns = (
        "seed",
        "stock best",
        "stock s",
        "its best after s",
        "ours s to reach",
        "in trial",
        "ours best",
        "ratio",
    )
    table = Table(*columns, box=None, padding=(0, 3, 0, 0))
    console = Console(highlight=False, width=140)
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        kept = surroundings(PNEUMO_STORES=f"{temporary}/stores")
        os.environ.clear()
        os.environ.update(kept)
        with initialize_config_dir(str(ROOT / "conf")):
            data = config.load(compose("train", both)).data
        load_dataset(data, lambda done, total: None)
        for seed in options.seeds:
            there, here = (Path(temporary, f"{side}-{seed}") for side in ("stock", "ours"))
            there.mkdir()
            here.mkdir()
            given = [*both, f"hydra.sweeper.sampler.seed={seed}"]
            a = stock(there, options.trials, given)
            b = ours(here, options.trials, a.best, given)
            ratios.append(b.seconds / a.seconds)
            of_trials = f"{b.trial} of {b.n_trials}" if b.trial is not None else f"none of {b.n_trials}"
            table.add_row(
                str(seed),
                f"{a.best:.4f}",
                f"{a.seconds:.0f}",
                f"{a.best_after_seconds:.0f}",
                f"{b.seconds:.0f}",
                of_trials,
                f"{b.best:.4f}",
                f"{ratios[-1]:.2f}",
            )
            console.print(f"seed {seed}: {ratios[-1]:.2f}")
    console.print(table)
    mean = sum(ratios) / len(ratios)
    console.print(f"mean ratio {mean:.2f} over {len(ratios)} seeds")
    sys.exit(0 if mean <= AT_MOST else f"at most {AT_MOST:g} is asked for")


if __name__ == "__main__":
    main()
