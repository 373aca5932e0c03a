"""Whether the data are those that a run was trained on, which of its images can still be evaluated, and
whether other data hold some of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pneumo.data.dataset import Dataset
from pneumo.errors import InputError, listed
from pneumo.evaluation.metrics import Array
from pneumo.inference.model import LoadedModel
from pneumo.runs import identity
from pneumo.runs.identity import TEST, TRAIN, VAL, DatasetIdentity


def check_same_split(models: Sequence[LoadedModel]) -> None:
    """InputError: models of an ensemble were not trained on the same split of the same images."""
    for other in models[1:]:
        first = models[0]
        if first.images and other.images:
            differing = identity.differences(first.images, other.images)
        else:
            differing = [] if first.split_hash == other.split_hash else ["their splits"]
        if differing:
            raise InputError(
                listed(
                    f"The runs {first.run_id} and {other.run_id} were split differently or are of other data "
                    "and cannot form an ensemble; from the first to the second:",
                    differing,
                )
            )


def with_trained_split(model: LoadedModel, own: Dataset) -> Dataset:
    """The same data in the split that the model was trained on, which is drawn otherwise where the rows of a
    table are in another order now."""
    if model.images is None or model.images.data != DatasetIdentity.of(own).data:
        return own
    order = identity.order_of(own.cohort)
    train, val, test = (np.sort(order[model.images.among(split)]) for split in (TRAIN, VAL, TEST))
    return replace(own, split=replace(own.split, train=train, val=val, test=test))


def check_same_data(model: LoadedModel, own: Dataset) -> None:
    """InputError: its images, labels, lesions, patients or split are not those that it was trained on."""
    name = f"The data of run {model.run_id} are not those that it was trained on:"
    if model.images is None:
        if own.split.hash != model.split_hash:
            raise InputError(f"{name} the split is another (the run is too old to know what has changed)")
        return
    now = DatasetIdentity.of(own)
    if not (differing := identity.differences(model.images, now)):
        return
    lines = [*differing, *identity.trained_on(model.images, now)]
    raise InputError(
        f"{listed(name, lines)}\n--split common evaluates the {len(common_rows([model], own)):,} images that "
        "were in its test split then and are so now, unchanged and of no patient that it was trained on"
    )


def common_rows(models: Sequence[LoadedModel], own: Dataset) -> Array:
    """The rows that are in the test split now and were in that of every model, unchanged, and of no patient
    who, as is known now, has an image that was trained on. InputError: a model is too old to know its
    images."""
    now, order = DatasetIdentity.of(own), identity.order_of(own.cohort)
    common = now.among(TEST)
    for model in models:
        if model.images is None:
            raise InputError(f"--split common: run {model.run_id} is too old to know its images")
        trained = model.images.split_of(now, TRAIN)
        of_trained = np.isin(now.patient, np.setdiff1d(now.patient[trained], [0]))  # 0: not known
        common &= identity.unchanged_rows(model.images, now, TEST) & ~trained & ~of_trained
    return np.sort(order[common])


def validation_rows(model: LoadedModel, own: Dataset) -> Array:
    """The rows of a model's own data that it was validated on and that have not changed since. InputError:
    they are not of both classes."""
    if model.images is None:
        return own.split.val
    now, order = DatasetIdentity.of(own), identity.order_of(own.cohort)
    rows = np.sort(order[identity.unchanged_rows(model.images, now, VAL)])
    if len(np.unique(own.labels[rows])) < 2:
        raise InputError(
            f"Of the validation images of run {model.run_id} {len(rows):,} are there unchanged, not of both "
            "classes: no threshold can be chosen"
        )
    return rows


def leak_notes(models: Sequence[LoadedModel], other: Dataset) -> list[str]:
    """Whether images or patients of another data set were trained on, in sentences."""
    now = DatasetIdentity.of(other)
    seen = [model.seen for model in models if model.seen]
    if len(seen) < len(models):
        return ["Which images it was trained on is not known: neither is whether these are among them."]
    same = np.any([np.isin(now.content, one.content) for one in seen], axis=0)
    named = np.any([one.among(now) for one in seen], axis=0) & ~same
    chosen_by = [model.images.content[model.images.among(VAL)] for model in models if model.images]
    found = {
        "of its images were trained on, by their content: a leak": same,
        "ids of its images were trained on, with other content: a leak, if they name the same images": named,
        "of its images chose its epoch and threshold, by their content": np.isin(
            now.content, np.concatenate([now.content[:0], *chosen_by])
        ),
    }
    if notes := [f"{int(rows.sum()):,} {said}." for said, rows in found.items() if rows.any()]:
        return notes
    patients = set(now.patient[now.patient != 0])
    if not patients or not any(len(one.patient) for one in seen):
        return ["Patients are not known in both: whether some were trained on cannot be told."]
    if again := len(patients.intersection(np.concatenate([one.patient for one in seen]))):
        return [f"{again:,} ids of its patients were trained on: a leak, if they mean the same patients."]
    return ["None of its images, and none of its patients' ids, is among those that were trained on."]
