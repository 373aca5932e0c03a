"""How many lesions the report's crop throws away, on the images of our runs."""

from collections.abc import Callable

import numpy as np

from pneumo.components.augment import Augment
from pneumo.data.dataset import load_dataset
from pneumo.data.store import Store
from pneumo.display.pages import Cell, Link, Section
from pneumo.errors import InputError
from pneumo.report2024.collect import CONTROL
from pneumo.runs import config
from pneumo.runs.identity import DatasetIdentity
from pneumo.runs.query import RunRecord, data_identity
from pneumo.runs.restore import experiment_of
from pneumo.training.lesion_retention import NOTHING_LEFT, sampled_lesions, share_of_lesions_lost

N_DRAWS = 4
ON_SIIM: list[Cell] = ["SIIM-ACR, measured before", "2,669", "58%", "65%", "-", ""]
COLUMNS = ["images", "lesions drawn", "its random crop, in training", "its centre, when judged"]


def section(runs: list[RunRecord], on_progress: Callable[[int, int], None]) -> Section:
    """One row for each set of images that runs were run on; it may be read again for that."""
    different = {run.tags.get("data_key"): run for run in runs}
    rows = [[*on_data(run, on_progress), Link(run.name, run.address)] for run in different.values()]
    text = (
        "The share of positive draws in which nothing of the lesion is left, while the label stays positive: "
        "a crop of 224 of 512 px, as the report's augmentation has it."
    )
    return Section(
        "What the crop loses", [text], [*COLUMNS, f"augment={CONTROL}", "a run of it"], [*rows, ON_SIIM]
    )


def on_data(run: RunRecord, on_progress: Callable[[int, int], None]) -> list[Cell]:
    """Not known where the images are not to be had any more, or are others by now."""
    name = run.tags.get("data", "?")
    try:
        source = experiment_of(run.run_id).data
        dataset = load_dataset(source, on_progress)
        store = dataset.store
        if data_identity(run.tags) not in (
            DatasetIdentity.of(dataset).data_identity,
            f"0-{dataset.split.hash}",
        ):
            raise InputError("its data are not what they were")
    except InputError as error:
        return [name, f"not known: {str(error).splitlines()[0]}", "", "", ""]
    drawn = len(store.lesions)
    name = f"{name}, {len(store.pixels):,} at {source.image_side_px} px"
    return [name, f"{drawn:,}", *shares(store)] if drawn else [name, "none", "-", "-", "-"]


def shares(store: Store) -> list[str]:
    """By the report's random crop, by its central one, and by the control."""
    report, control = augment_of("report"), augment_of(CONTROL)
    some, every = sampled_lesions(store), np.arange(len(store.lesions))
    lost = [
        share_of_lesions_lost(report, store, some, NOTHING_LEFT, N_DRAWS),
        share_of_lesions_lost(report, store, every, NOTHING_LEFT, n_draws=0),
        share_of_lesions_lost(control, store, some, NOTHING_LEFT, N_DRAWS),
    ]
    return [f"{share:.1%}" for share in lost]


def augment_of(name: str) -> Augment:
    return config.load(config.compose_train([f"augment={name}"])).augment
