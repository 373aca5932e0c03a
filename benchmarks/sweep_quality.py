"""python benchmarks/sweep_quality.py: how soon ours is as good as hydra-optuna-sweeper has become at its end.

Same space (search=report), images, epochs and seeds, of which each one draws the images, the weights and the
trials; the stock sweeper has its own TPE and carries every trial out in full. It is run twice: as it comes,
in one process, and with hydra-joblib-launcher (`pip install -e '.[bench]'`) in as many processes as ours has
by workers=auto. Ours, as search=report comes, begins with two given trials, the report's setting and that of
train.yaml, which was chosen on other images; --without-given leaves both out.

The images of a seed are drawn before its first side begins. The two stock sides take turns in being first;
ours comes last, since it needs their best as its goal.

The stopping rules were fixed before any run. A stock side ends after 20 trials. Ours is stopped at its first
complete trial at least as good as the best of both stock sides, and after 40 trials in any case. What counts
on each side are its seconds, start of the process included: of the stock side all, of ours those to the first
complete trial at least as good as that side's best. Where ours does not reach it, all its seconds count, and
the ratio is marked with > as a lower bound; so is then the mean, which counts as missed.

The best of 20 noisy trials is partly luck; the column `after` says when the stock side itself had its best.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import mlflow
import yaml
from hydra import compose, initialize_config_dir
from optuna.trial import FrozenTrial, TrialState
from rows import table
from runs import ROOT, surroundings

from pneumo.data.dataset import load_dataset
from pneumo.errors import InputError
from pneumo.runs import config
from pneumo.sweep import workers
from pneumo.sweep.storage import StudyStorage, open_study

AT_MOST = 0.5
STUDY = "outputs/studies/report"
POLL_SECONDS = 0.5
REPEAT_SECONDS = 20
COLUMNS = ("seed", "stock", "best", "seconds", "after", "ours", "in trial", "seconds", "ratio")


@dataclass(frozen=True)
class Stock:
    name: str
    best: float
    best_after_seconds: float
    seconds: float


@dataclass(frozen=True)
class Ours:
    """The complete trials of ours, each with the seconds after which it had ended, and the seconds in all."""

    trials: list[tuple[FrozenTrial, float]]
    seconds: float

    def reached(self, goal: float) -> tuple[FrozenTrial, float] | None:
        """The first trial at least as good, with its seconds."""
        good = [found for found in self.trials if found[0].values[0] >= goal]
        return min(good, key=lambda found: found[1], default=None)


def started(folder: Path, overrides: Sequence[str]) -> subprocess.Popen[bytes]:
    folder.mkdir()
    command = [sys.executable, str(ROOT / "sweep.py"), "-m", *overrides]
    with (folder / "printed.txt").open("w") as printed:
        return subprocess.Popen(command, cwd=folder, stdout=printed, stderr=subprocess.STDOUT)


def stock(name: str, folder: Path, n_trials: int, overrides: Sequence[str]) -> Stock:
    began = time.time()
    process = started(folder, ["hydra/sweeper=optuna", f"n_trials={n_trials}", *overrides])
    if process.wait():
        sys.exit((folder / "printed.txt").read_text()[-4000:])
    seconds = time.time() - began
    best = yaml.safe_load((folder / STUDY / "optimization_results.yaml").read_text())["best_value"]
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    there = [run.info.end_time for run in runs if run.data.metrics.get("best/val_auroc", 0) >= best]
    return Stock(name, best, min(there) / 1000 - began, seconds)


def ours(folder: Path, n_trials: int, goal: float, overrides: Sequence[str]) -> Ours:
    """Stopped by an interrupt once a trial is at least as good as the goal."""
    began = time.time()
    process = started(folder, [f"n_trials={n_trials}", *overrides])
    storage: StudyStorage | None = None
    seconds = None
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        storage = storage or study_in(folder)
        complete = storage.trials(TrialState.COMPLETE) if storage else []
        if any(trial.values[0] >= goal for trial in complete):
            seconds = seconds or time.time() - began
            process.send_signal(signal.SIGINT)  # again if it has not ended: Python may drop an interrupt
            with suppress(subprocess.TimeoutExpired):
                process.wait(REPEAT_SECONDS)
    if process.returncode not in (0, 130):
        sys.exit((folder / "printed.txt").read_text()[-4000:])
    ended = time.time() - began
    storage = storage or study_in(folder)
    assert storage is not None
    trials = [
        (trial, trial.datetime_complete.timestamp() - began)
        for trial in storage.trials(TrialState.COMPLETE)
        if trial.datetime_complete
    ]
    return Ours(trials, seconds or ended)


def study_in(folder: Path) -> StudyStorage | None:
    try:
        return open_study(f"sqlite:///{folder / 'study.db'}", "report", None)
    except InputError:
        return None


@dataclass(frozen=True)
class Ratio:
    value: float
    is_lower_bound: bool


def row(seed: int, there: Stock, here: Ours) -> tuple[list[str], Ratio]:
    """A line of the table, and its ratio."""
    found = here.reached(there.best)
    seconds = found[1] if found else here.seconds
    best = found[0].values[0] if found else max(trial.values[0] for trial, _ in here.trials)
    ratio = seconds / there.seconds
    cells = [
        *(
            str(seed),
            there.name,
            f"{there.best:.4f}",
            f"{there.seconds:.0f}",
            f"{there.best_after_seconds:.0f}",
        ),
        *(f"{best:.4f}", f"#{found[0].number}" if found else "none", f"{seconds:.0f}"),
        f"{'' if found else '> '}{ratio:.2f}",
    ]
    return cells, Ratio(ratio, found is None)


def judged(name: str, ratios: Sequence[Ratio]) -> tuple[str, bool]:
    """A sentence about the mean ratio to a stock side, and whether it misses what is asked for."""
    mean = sum(ratio.value for ratio in ratios) / len(ratios)
    is_lower_bound = any(ratio.is_lower_bound for ratio in ratios)
    what = f"{'at least ' if is_lower_bound else ''}{mean:.2f} over {len(ratios)} seeds"
    return f"mean ratio to stock, {name}: {what}", is_lower_bound or mean > AT_MOST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1400)
    parser.add_argument("--epochs", type=int, help="default: as in conf/train.yaml")
    parser.add_argument(
        "--trials", type=int, default=20, help="of a stock side; of ours at most twice as many"
    )
    parser.add_argument("--workers", type=int, help="of ours and of joblib; default: as workers=auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--without-given", action="store_true", help="ours with search.enqueue=[]")
    parser.add_argument("overrides", nargs="*", help="of all sides")
    options = parser.parse_args()
    if find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        sys.exit("The launcher is not installed: pip install -e '.[bench]'")
    every = [f"data.n_images={options.images}", *options.overrides]
    every += [f"fit.epochs={options.epochs}"] if options.epochs else []
    n_workers = options.workers or workers.count(2 * options.trials, True, workers.MEMORY_OF_TINY)
    joblib = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={n_workers}", f"jobs={n_workers}"]

    lines: list[Sequence[str]] = [COLUMNS]
    ratios: dict[str, list[Ratio]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        kept = surroundings(PNEUMO_STORES=f"{temporary}/stores")
        os.environ.clear()
        os.environ.update(kept)
        for number, seed in enumerate(options.seeds):
            drawn = [*every, f"data.seed={seed}", f"seed={seed}"]
            with initialize_config_dir(str(ROOT / "conf")):
                load_dataset(config.load(compose("sweep", drawn)).data, lambda done, total: None)
            given = [*drawn, f"hydra.sweeper.sampler.seed={seed}"]
            sides = []
            of_sides = [
                ("stock", "one process", given),
                ("joblib", f"joblib, {n_workers}", [*joblib, *given]),
            ]
            for place, name, words in of_sides[:: -1 if number % 2 else 1]:
                sides.append(side := stock(name, Path(temporary, f"{place}-{seed}"), options.trials, words))
                print(f"seed {seed}, {side.name}: {side.best:.4f} after {side.seconds:.0f} s", flush=True)
            goal = max(side.best for side in sides)
            words = [f"workers={n_workers}", *given]
            words += ["search.enqueue=[]"] if options.without_given else []
            here = ours(Path(temporary, f"ours-{seed}"), 2 * options.trials, goal, words)
            for side in sides:
                cells, ratio = row(seed, side, here)
                lines.append(cells)
                ratios.setdefault(side.name, []).append(ratio)
                print(" ".join(cells), flush=True)
    print(table(lines))
    missed = []
    for name, values in ratios.items():
        text, is_missed = judged(name, values)
        missed += [name] if is_missed else []
        print(text)
    sys.exit(f"at most {AT_MOST:g} is asked for: missed against {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
