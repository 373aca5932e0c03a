"""Estimates what a training on a data set takes, by measuring a few images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo.data.cohort import Cohort
from pneumo.data.contents import cores
from pneumo.data.dataset import Dataset, first_images
from pneumo.data.store import is_stored
from pneumo.display.format import duration
from pneumo.runs import config
from pneumo.runs.run import build_model, build_train_state, build_trainer
from pneumo.training.device import Accelerator
from pneumo.training.predict import tta_transforms

DECODED, STEPS = 32, 8  # images that are decoded, and steps that are trained, to be measured


@dataclass(frozen=True)
class Reading:
    """How long it takes to decode all images, and the disk space that their store takes."""

    seconds: float
    gigabytes: float
    n_measured: int

    def line(self, n_images: int, side_px: int, folder: Path) -> str:
        """Returns these as a line for the terminal."""
        return (
            f"{about(self.seconds)} to decode {n_images:,} images, once, and {size(self.gigabytes)} at "
            f"{side_px} px in {folder} (estimated from {self.n_measured} images on {cores()} cores)"
        )


@dataclass(frozen=True)
class Epoch:
    """How long an epoch of the default training takes."""

    seconds: float
    epochs: int
    n_measured: int
    device: str
    model: str

    def line(self) -> str:
        """Returns this as a line for the terminal."""
        return (
            f"{about(self.seconds)} an epoch, {about(self.seconds * self.epochs)} for the {self.epochs} of "
            f"model={self.model} (estimated from {self.n_measured} images on {self.device})"
        )


def reading(cohort: Cohort, side_px: int, folder: Path) -> Reading | None:
    """Decodes a few images, spread over the data set, and returns what all take; None if they are in the
    store already."""
    if is_stored(cohort, side_px, folder):
        return None
    n = len(cohort)
    few = np.unique(np.linspace(0, n - 1, DECODED).astype(int)).tolist()
    started = time.perf_counter()
    n_masks = sum(len(block.masks) for block in cohort.pixels.at(few).blocks(side_px))
    seconds = (time.perf_counter() - started) / len(few) * n
    images = n + n * n_masks / len(few)
    return Reading(seconds, images * side_px**2 / 1e9, len(few))


def epoch(dataset: Dataset, overrides: Sequence[str]) -> Epoch:
    """Trains a few steps, which are forgotten, and returns what an epoch takes with the default settings."""
    experiment = config.load(config.compose_train(overrides))
    accelerator = Accelerator.chosen(experiment.fit.device, experiment.fit.precision)
    whole = build_trainer(experiment, dataset, accelerator)
    few = first_images(dataset, min(STEPS * whole.effective_batch, len(dataset.split.train)))
    trainer = build_trainer(experiment, few, accelerator)
    train_state = build_train_state(experiment, build_model(experiment, accelerator), trainer)

    def measured(number: int) -> tuple[float, float]:
        """Seconds of training and of validating on the few images."""
        started = time.perf_counter()
        trainer.train_epoch(train_state, number, lambda done, total: None, lambda state: None)
        trained = time.perf_counter()
        trainer.predict(train_state.evaluated, few.split.val, tta_transforms("none"))
        return trained - started, time.perf_counter() - trained

    measured(1)  # the first steps are slower
    seconds_trained, seconds_validated = measured(2)
    random = np.random.default_rng(0)
    per_order = len(whole.order(1, random)) / len(trainer.order(1, random))
    per_validated = len(dataset.split.val) / len(few.split.val)
    seconds = seconds_trained * per_order + seconds_validated * per_validated
    device = accelerator.name
    n_few = len(few.split.train)
    return Epoch(seconds, experiment.fit.epochs, n_few, device, str(experiment.choices["model"]))


def about(seconds: float) -> str:
    """Returns about 2:09, or under 1 s."""
    return f"about {duration(seconds)}" if seconds >= 1 else "under 1 s"


def size(gigabytes: float) -> str:
    """Returns 3.2 GB, or 45 MB."""
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{max(1, round(gigabytes * 1000))} MB"
