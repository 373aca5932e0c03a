"""`pneumo reproduce RUN`: trains with the configuration and seed of a run again and compares each
epoch."""

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
    """Trains the run again, without its test split, and returns how far the epochs differ. InputError: no
    such run, its files are gone, it never finished an epoch, or its data have changed since."""
    tracking.connect()
    before = {name: query.metric_history(query.find_run(run_id).info.run_id, name) for name in COMPARED}
    if not before["val/auroc"]:
        raise InputError(f"Run {run_id} never finished an epoch: there is nothing to compare with")
    experiment = experiment_of(run_id, {"fit.test": False, "fit.pictures": False})
    callback = ReproducedRun(run_id, experiment.fit.few_images)
    run(experiment, Path("outputs/reproduced") / f"{run_id[:8]}-{datetime.now():%Y%m%d-%H%M%S}", callback)
    now = {name: query.metric_history(str(callback.run_id), name) for name in COMPARED}
    largest = {
        name: max(abs(value - now[name][epoch]) for epoch, value in curve.items() if epoch in now[name])
        for name, curve in before.items()
    }
    print_differences(before, now, largest, callback.terminal)
    return {
        "original": run_id,
        "run_id": callback.run_id,
        "equal": before == now,
        "epochs": len(now["val/auroc"]),
        "largest_difference": largest,
    }


def print_differences(before: Curves, now: Curves, largest: dict[str, float], terminal: Terminal) -> None:
    terminal.line()
    if before == now:
        terminal.line(f"REPRODUCED: all {len(now['val/auroc'])} epochs are equal to the last digit")
        return
    rows = [
        [name, f"{before[name][max(before[name])]:.6g}", f"{now[name][max(now[name])]:.6g}", f"{gap:.2g}"]
        for name, gap in largest.items()
    ]
    terminal.table(["", "last epoch then", "last epoch now", "largest difference in an epoch"], rows)
    terminal.warn(f"NOT EQUAL: val AUROC differs by up to {decimal(largest['val/auroc'], 4)}")
    terminal.line(
        f"Equal digits need the same device, torch and number of threads (now {torch.get_num_threads()}), "
        "and the same code: compare the tags host and git_commit."
    )
