"""Counts how often the test split of a run has been evaluated, under whatever name its images are loaded."""

from collections.abc import Sequence

import numpy as np

from pneumo.data.dataset import Dataset
from pneumo.evaluation.metrics import Array
from pneumo.inference.model import LoadedModel
from pneumo.runs import identity, query, tracking
from pneumo.runs.identity import DatasetIdentity


def count_in_test_split(model: LoadedModel, dataset: Dataset, rows: Array, is_own_test: bool) -> int:
    """How many of these rows are in the model's test split, under whatever name they are requested. For a run
    whose checkpoint does not record its images: all, where they were requested as its own (`is_own_test`)."""
    if model.images is None:
        return len(rows) if is_own_test else 0
    now, order = DatasetIdentity.of(dataset), identity.order_of(dataset.cohort)
    return int((identity.in_test_then(model.images, now) & np.isin(order, rows)).sum())


def test_split_notes(models: Sequence[LoadedModel], n_in_test: Sequence[int], n_images: int) -> list[str]:
    """How often the test split has been evaluated, in sentences; empty where no image is in a model's."""
    runs = [query.find_run(model.run_id) for model, count in zip(models, n_in_test, strict=True) if count]
    if not runs:
        return []
    most = max(runs, key=query.test_evaluations_of)
    times = 1 + query.test_evaluations_of(most)
    some = f"{max(n_in_test):,} of these images are in the test split. "
    whole = "" if max(n_in_test) == n_images else some
    rest = "" if times == 1 else ": the more often models are chosen by it, the less it shows"
    notes = [f"{whole}The test split has now been evaluated {times} time{'s' if times > 1 else ''}{rest}."]
    if test_identity := most.data.tags.get("test_identity"):
        run_ids = {run.info.run_id for run in runs}
        evaluations, others = query.test_evaluations_of_others(test_identity, run_ids)
        if evaluations:
            notes.append(
                f"{others} other run{'s' if others > 1 else ''} evaluated the same test images, "
                f"{evaluations} time{'s' if evaluations > 1 else ''} in all."
            )
    return notes


def record_test_evaluation(models: Sequence[LoadedModel], n_in_test: Sequence[int]) -> None:
    """Adds one to the number of test evaluations of each run whose test split was evaluated."""
    for model, count in zip(models, n_in_test, strict=True):
        if count:
            evaluations = query.test_evaluations_of(query.find_run(model.run_id)) + 1
            tracking.tag_run(model.run_id, test_evaluations=evaluations)
