"""`pneumo reproduce RUN`: trains with the configuration and seed of a run again and compares each epoch of
the original. The copy may have more of them, where the original was stopped by its study or by hand."""

from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from pneumo.data.dataset import Dataset, first_images, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.console import Advance, Terminal
from pneumo.display.format import decimal
from pneumo.errors import InputError
from pneumo.runs import checkpoint, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.identity import DatasetIdentity
from pneumo.runs.restore import experiment_of
from pneumo.runs.run import run

COMPARED = ("train/loss", "val/loss", "val/auroc")
Curves = dict[str, dict[int, float]]  # metric -> epoch -> value


class ReproducedRun(RunCallback):
    """Tags a run as the copy of another one, and refuses changed data."""

    def __init__(self, original: str, few_images: int | None):
        super().__init__()
        self.tags = {"reproduces": original}
        self._original, self._few_images = original, few_images

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """InputError: the data are not those of the original run; nothing is trained on them."""
        dataset = load_dataset(source, advance)
        path = query.checkpoint_file(self._original, checkpoint.BEST)
        used = first_images(dataset, self._few_images)
        checkpoint.refuse_other_images(checkpoint.read(path), DatasetIdentity.of(used), used.split.hash, path)
        return dataset


def reproduce(run_id: str) -> dict[str, Any]:
    """Trains the run again, without its test split and under a name of its own, and returns how far the
    epochs of the original differ. InputError: no such run, its files are gone, it never finished an epoch, or
    its data have changed since."""
    tracking.connect()
    before = {name: query.metric_history(query.find_run(run_id).info.run_id, name) for name in COMPARED}
    if not before["val/auroc"]:
        raise InputError(f"Run {run_id} never finished an epoch: there is nothing to compare with")
    experiment = experiment_of(run_id, {"fit.test": False, "fit.pictures": False, "tracking.name": None})
    callback = ReproducedRun(run_id, experiment.fit.few_images)
    run(experiment, Path("outputs/reproduced") / f"{run_id[:8]}-{datetime.now():%Y%m%d-%H%M%S}", callback)
    every = {name: query.metric_history(str(callback.run_id), name) for name in COMPARED}
    now = {name: of_same_epochs(every[name], curve) for name, curve in before.items()}
    largest = {
        name: max((abs(value - curve[epoch]) for epoch, value in now[name].items()), default=float("nan"))
        for name, curve in before.items()
    }
    print_differences(before, now, largest, len(every["val/auroc"]), callback.terminal)
    return {
        "original": run_id,
        "run_id": callback.run_id,
        "equal": before == now,
        "epochs": len(now["val/auroc"]),
        "largest_difference": largest,
    }


def of_same_epochs(curve: dict[int, float], other: dict[int, float]) -> dict[int, float]:
    """The values of a curve in the epochs that the other one has too."""
    return {epoch: value for epoch, value in curve.items() if epoch in other}


def print_differences(
    before: Curves, now: Curves, largest: dict[str, float], n_trained: int, terminal: Terminal
) -> None:
    """Prints whether the epochs `before` are those that the copy has `now`; `n_trained`: all of the copy."""
    terminal.line()
    n_epochs = len(before["val/auroc"])
    if before == now:
        of = " of the original" if n_trained > n_epochs else ""
        more = f"; the copy has {n_trained} epochs" if n_trained > n_epochs else ""
        terminal.line(f"REPRODUCED: all {n_epochs} epochs{of} are equal to the last digit{more}")
        return
    rows = []
    for name, gap in largest.items():
        last = max(now[name], default=None)  # of the epochs that both have
        shown = ["-", "-"] if last is None else [f"{before[name][last]:.6g}", f"{now[name][last]:.6g}"]
        rows.append([name, *shown, f"{gap:.2g}"])
    terminal.table(["", "last epoch then", "last epoch now", "largest difference in an epoch"], rows)
    compared = len(now["val/auroc"])
    of_original = (
        f" in the {compared} of its {n_epochs} epochs that the copy has" if compared < n_epochs else ""
    )
    terminal.warn(f"NOT EQUAL: val AUROC differs by up to {decimal(largest['val/auroc'], 4)}{of_original}")
    terminal.line(
        f"Equal digits need the same device, torch and number of threads (now {torch.get_num_threads()}), "
        "and the same code: compare the tags host and git_commit."
    )
