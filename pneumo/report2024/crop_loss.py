"""The section on the lesions that the report's crop removes, measured on the images of the runs."""

from collections.abc import Callable, Sequence

import numpy as np

from pneumo.components.augment import Augment
from pneumo.data.dataset import load_dataset
from pneumo.data.store import Store
from pneumo.display.pages import Cell, Link, Section
from pneumo.errors import InputError
from pneumo.report2024.collect import CONTROL
from pneumo.report2024.crop_picture import picture
from pneumo.runs import config
from pneumo.runs.identity import DatasetIdentity
from pneumo.runs.query import RunRecord, data_identity
from pneumo.runs.restore import experiment_of
from pneumo.training.lesion_retention import NOTHING_LEFT, sampled_lesions, share_of_lesions_lost

N_DRAWS = 4
ON_SIIM: list[Cell] = ["SIIM-ACR, measured earlier", "2,669", "58%", "65%", "-", ""]
COLUMNS = ("images", "annotated lesions", "random crop, in training", "centre crop, in evaluation")


def section(runs: Sequence[RunRecord], on_progress: Callable[[int, int], None]) -> Section:
    """One row for each data set of the runs, whose images are loaded again for it."""
    by_data = {run.tags.get("data_key"): run for run in runs}
    rows = [[*lesions_lost(run, on_progress), Link(run.name, run.address)] for run in by_data.values()]
    rows.append(ON_SIIM)
    text = (
        "The report's augmentation crops 224 of 512 px. The share of positive draws in which nothing of the "
        "lesion is left although the label stays positive, and of centre crops that have nothing of it: "
        f"{'; '.join(f'{name}: {drawn}, {centre}' for name, _, drawn, centre, *_ in rows if drawn)}."
    )
    columns = [*COLUMNS, f"augment={CONTROL}", "a run on them"]
    caption = (
        "Four synthetic radiographs, one draw of the report's augmentation each: the lesion outlined in red, "
        "and in yellow the frame of what the model sees"
    )
    plots = {caption: [picture(augment_of("report"))]}
    return Section("Lesions lost by the report's crop", [text], columns, rows, plots)


def lesions_lost(run: RunRecord, on_progress: Callable[[int, int], None]) -> list[Cell]:
    """The cells of one data set; "not known" where its images are gone or have changed since the run."""
    name = run.tags.get("data", "?")
    try:
        source = experiment_of(run.run_id).data
        dataset = load_dataset(source, on_progress)
        identities = (DatasetIdentity.of(dataset).data_identity, f"0-{dataset.split.hash}")
        if data_identity(run.tags) not in identities:
            raise InputError("the data have changed since the run")
    except InputError as error:
        return [name, f"not known: {str(error).splitlines()[0]}", "", "", ""]
    store = dataset.store
    n_lesions = len(store.lesions)
    name = f"{name}, {len(store.pixels):,} at {source.image_side_px} px"
    return [name, f"{n_lesions:,}", *shares(store)] if n_lesions else [name, "none", "-", "-", "-"]


def shares(store: Store) -> list[str]:
    """The share of lesions lost by the report's random crop, its centre crop, and the control."""
    report, control = augment_of("report"), augment_of(CONTROL)
    some, every = sampled_lesions(store), np.arange(len(store.lesions))
    settings = ((report, some, N_DRAWS), (report, every, 0), (control, some, N_DRAWS))
    return [
        f"{share_of_lesions_lost(augment, store, lesions, NOTHING_LEFT, n_draws):.1%}"
        for augment, lesions, n_draws in settings
    ]


def augment_of(name: str) -> Augment:
    return config.load(config.compose_train([f"augment={name}"])).augment
