"""The data set of a run: a cohort, its pixel store and its split."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import Source
from pneumo.data.split import Split, numbers_of, split_cohort
from pneumo.data.store import Store, open_store


@dataclass(frozen=True)
class Dataset:
    """N images of one source; rows of `cohort`, `store` and `split` are the same numbers."""

    cohort: Cohort
    store: Store
    split: Split

    @property
    def labels(self) -> np.ndarray:
        """(N,) 0 or 1"""
        return self.cohort.table["label"].to_numpy(int)

    @property
    def patients(self) -> np.ndarray:
        """(N,) equal for images of one patient"""
        return self.cohort.groups()

    @property
    def patients_known(self) -> bool:
        """Whether the patient of any image is known."""
        return bool(self.cohort.table["patient_id"].notna().any())

    def positive_patients(self, rows: np.ndarray) -> int:
        """How many patients have a positive image among these rows."""
        return len(np.unique(self.patients[rows[self.labels[rows] == 1]]))

    @property
    def notes(self) -> list[str]:
        """Warnings to print."""
        skipped = len(self.cohort.skipped)
        left_out = [f"{skipped:,} rows left out; the list is in the run: skipped.txt"] if skipped else []
        return [*self.cohort.notes, *self.store.notes, *self.split.notes, *left_out]


def load_dataset(source: Source, on_progress: Callable[[int, int], None]) -> Dataset:
    """Reads, decodes and splits a source; `on_progress(done, total)` is called as images are decoded.
    InputError: a table, a file or a split is not as it must be."""
    folder = Path(source.store_dir)
    cohort, store = open_store(source(), source.image_side_px, folder, source.on_error, on_progress)
    return Dataset(cohort, store, split_cohort(cohort, source))


def load_unsplit(source: Source, on_progress: Callable[[int, int], None]) -> Dataset:
    """As `load_dataset`, with all images in the test split, however few. InputError: a table or a
    file is not as it must be."""
    folder = Path(source.store_dir)
    cohort, store = open_store(source(), source.image_side_px, folder, source.on_error, on_progress)
    none = np.empty(0, int)
    rows = np.arange(len(cohort))
    return Dataset(cohort, store, Split(none, none, rows, "", None, (), np.nan, {}))


def first_images(dataset: Dataset, n_images: int | None) -> Dataset:
    """The data set cut to its first `n_images` training images, half of them positive, which are also
    validated and tested on: to see whether a model can learn at all. None: the data set as it is."""
    if n_images is None:
        return dataset
    train = dataset.split.train
    labels = dataset.labels[train]
    half = n_images // 2
    few = np.concatenate([train[labels == 1][:half], train[labels == 0][: n_images - half]])
    notes = (f"fit.few_images={n_images}: trained, validated and tested on the same {len(few)} images",)
    numbers = dataset.split.numbers | numbers_of(dataset.cohort, few, few, few)
    risk = "judged on its training images"
    unsplit = replace(dataset.split, leak_risk=risk, notes=notes, numbers=numbers, patient_memory_auc=np.nan)
    split = replace(unsplit, train=few, val=few, test=few)
    return replace(dataset, split=split)
