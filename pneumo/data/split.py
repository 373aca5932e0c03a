"""Splits a cohort into train, val and test, patient-disjoint and stratified, and measures whether it leaks.

Patients are distributed over many equal bins, those with most images first, each into the bin that holds
fewest of the positives and negatives that they bring. The bins are then assigned to the splits by the seed.
So a patient of 61 images is as likely to be tested on as one of a single image, and sizes and prevalences
still come out close.
"""

# N images of the cohort; split_of (N,) is the number in PARTS of each image's split

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import COLUMN_VALUES, Source
from pneumo.errors import InputError

Rows = npt.NDArray[np.int64]

PARTS = ("train", "val", "test")
BINS = (14, 3, 3)  # of 20: .70, .15, .15
BINS_WITHOUT_TEST = (14, 3)  # .15 of .85, where the test split is given
DRAWS, EVEN = 2000, 0.03  # at most so many draws for counts within 3% of the shares; else the closest
ALIKE_SHARE, ALIKE_IMAGES = 0.98, 200  # patients / images from which on a patient id tells nothing


@dataclass(frozen=True)
class Split:
    """Row numbers of the cohort, each in one of three splits, with what to report and log of them."""

    train: Rows
    val: Rows
    test: Rows
    hash: str  # of image ids and their splits, independent of the order of rows
    leak_risk: str | None  # why one patient may lie in two splits; None: none does
    notes: tuple[str, ...]
    patient_memory_auc: float  # test images scored by their patient's mean training label; .5: nothing leaks
    numbers: dict[str, float]  # sizes, patients, positives and prevalence, to be logged


def split_cohort(cohort: Cohort, source: Source) -> Split:
    """Splits a cohort as its source is configured. InputError: a split would have one class only, or the
    column that names the splits is not as it must be."""
    labels = cohort.table["label"].to_numpy(np.int64)
    groups = cohort.groups()
    alone = np.arange(len(cohort))
    if source.split == "patient":
        split_of = deal(groups, labels, BINS, source.split_seed)
    elif source.split == "image":
        split_of = deal(alone, labels, BINS, source.split_seed)
    elif source.split == "folds":
        split_of = _of_fold(
            deal(groups, labels, (1,) * source.folds, source.split_seed), source.folds, source.fold
        )
    else:
        split_of = _of_column(cohort, groups, labels, source)
    _need_both_classes(split_of, labels, groups, cohort, source)
    risk, notes = _leak_risk(cohort, groups, split_of, source)
    if source.split in ("patient", "folds"):
        assert (pd.Series(split_of).groupby(groups).nunique() == 1).all(), "a patient lies in two splits"
    memory_val, memory_test = (_patient_memory_auc(split_of, index, groups, labels) for index in (1, 2))
    train, val, test = (np.flatnonzero(split_of == index) for index in range(3))
    return Split(
        train=train,
        val=val,
        test=test,
        hash=_hash(cohort.table["image_id"], split_of),
        leak_risk=risk,
        notes=notes,
        patient_memory_auc=memory_test,
        numbers=numbers_of(cohort, train, val, test)
        | {"split/patient_memory_auc": memory_test, "split/patient_memory_auc_val": memory_val},
    )


def deal(groups: Rows, labels: Rows, bins: Sequence[int], seed: int) -> Rows:
    """Distributes whole groups over splits that hold bins[i] of sum(bins) of the positives and the negatives.

    groups and labels are (N,); returns split_of (N,).
    """
    random = np.random.default_rng(seed)
    _, member = np.unique(groups, return_inverse=True)
    brought = np.zeros((member.max() + 1, 2))  # negatives and positives of each group
    np.add.at(brought, (member, labels), 1)
    order = random.permutation(len(brought))
    order = order[np.argsort(-brought[order].sum(axis=1), kind="stable")]
    weight = 1 / np.maximum(brought.sum(axis=0), 1) ** 2
    held = np.zeros((sum(bins), 2))
    bin_of = np.zeros(len(brought), np.int64)
    for group in order:  # the bin whose squared shares grow least
        bin_of[group] = lightest = np.argmin(held @ (weight * brought[group]))
        held[lightest] += brought[group]
    split_of_bin = _assigned(held, bins, random)
    return split_of_bin[bin_of[member]]


def _assigned(held: npt.NDArray[np.float64], bins: Sequence[int], random: np.random.Generator) -> Rows:
    """Assigns bins to splits at random until every split has about its share of positives and of negatives.
    held (sum(bins), 2): negatives and positives in each bin; returns the split of each bin."""
    splits = np.repeat(np.arange(len(bins)), bins)
    draws = random.permuted(np.tile(splits, (DRAWS, 1)), axis=1)
    got = np.stack([(draws == split) @ held for split in range(len(bins))], axis=1)  # draws, splits, classes
    wanted = np.outer(np.array(bins) / sum(bins), held.sum(axis=0))
    unevenness = np.abs(got / np.maximum(wanted, 1) - 1).max(axis=(1, 2))
    even = unevenness <= max(EVEN, unevenness.min())
    first: Rows = draws[even.argmax()]  # always the best would always train on the largest patient
    return first


def _of_fold(fold_of: Rows, folds: int, fold: int) -> Rows:
    """Fold `fold` is test, the next one val, the rest train."""
    split_of = np.zeros_like(fold_of)
    split_of[fold_of == (fold + 1) % folds] = 1
    split_of[fold_of == fold] = 2
    return split_of


def _of_column(cohort: Cohort, groups: Rows, labels: Rows, source: Source) -> Rows:
    """As the column names the splits; a missing val is taken from train by patient."""
    values = cohort.table[source.split_column].astype(str).str.lower()
    unknown = ~values.isin(list(COLUMN_VALUES))
    if unknown.any():
        row = int(unknown.to_numpy().argmax())
        raise InputError(
            f'{cohort.table["where"].iloc[row]}: {source.split_column} is "{values.iloc[row]}", must be '
            f"train, val or test ({int(unknown.sum()):,} such rows)"
        )
    split_of = np.array(values.map(COLUMN_VALUES), np.int64)
    if not (split_of == 1).any():
        train = split_of == 0
        if not train.any():
            raise InputError(f"data.split_column={source.split_column} has no image of train")
        split_of[train] = deal(groups[train], labels[train], BINS_WITHOUT_TEST, source.split_seed)
    return split_of


def _need_both_classes(split_of: Rows, labels: Rows, groups: Rows, cohort: Cohort, source: Source) -> None:
    for index, name in enumerate(PARTS):
        images, positives = int((split_of == index).sum()), int(labels[split_of == index].sum())
        if positives in (0, images):
            known = cohort.table["patient_id"].notna().any()
            why = _too_few_patients(labels, groups, source) if known else ""
            of_all = f"{int(labels.sum()):,} of all {len(labels):,} images are positive"
            raise InputError(
                f"data.split={source.split}: {name} has {images:,} images, {positives:,} of them positive; "
                f"it needs both classes ({of_all}){why}"
            )


def _too_few_patients(labels: Rows, groups: Rows, source: Source) -> str:
    """That fewer patients have images of a class than there are splits, "" if that is not so."""
    n_splits = {"patient": len(PARTS), "folds": source.folds}.get(source.split, 0)
    n_positive, n_negative = (len(np.unique(groups[labels == label])) for label in (1, 0))
    if min(n_positive, n_negative) >= n_splits:
        return ""
    splits = "folds" if source.split == "folds" else "splits"
    return (
        f": of {len(np.unique(groups)):,} patients {n_positive:,} have positive images and {n_negative:,} "
        f"negative ones, too few for {n_splits} {splits} that share no patient"
    )


def _leak_risk(
    cohort: Cohort, groups: Rows, split_of: Rows, source: Source
) -> tuple[str | None, tuple[str, ...]]:
    """Why one patient may lie in two splits: as a short tag for the run, and as a sentence to print."""
    patients = cohort.table["patient_id"]
    unknown = int(patients.isna().sum())
    images, distinct = len(cohort), patients.nunique()
    if unknown == images:
        return "no patients known", (
            "no patient is known: each image counts as its own, one person may lie in two splits, which is a "
            f"leak; {source.names_patients} names the patients",
        )
    splits_of = pd.Series(split_of).groupby(groups).nunique()
    shared = int((splits_of > 1).sum())
    if source.split == "image":
        return "image split", (
            f"split by image: {shared:,} patients lie in more than one split, so scores are too high; "
            "data.split=patient keeps each in one",
        )
    if shared:
        return "patients shared by the column", (
            f"{shared:,} patients lie in more than one split of the column {source.split_column}, "
            "so scores are too high",
        )
    if distinct + unknown > ALIKE_SHARE * images and images > ALIKE_IMAGES:
        return "patients about as many as images", (
            f"{images:,} images of {distinct:,} patients: about one each, so the patient ids may not name "
            "people, and one person may lie in two splits",
        )
    if unknown:
        return "some patients unknown", (
            f"{unknown:,} of {images:,} images have no known patient; each counts as its own",
        )
    return None, ()


def _patient_memory_auc(split_of: Rows, index: int, groups: Rows, labels: Rows) -> float:
    """How well the mean training label of an image's own patient predicts its label, without a pixel.

    Area under the ROC curve, ties as halves; patients without a training image get the training prevalence.
    """
    train = split_of == 0
    memory = pd.Series(labels[train]).groupby(groups[train]).mean()
    held_out = split_of == index
    scores = pd.Series(groups[held_out]).map(memory).fillna(labels[train].mean())
    ranks = scores.rank().to_numpy()
    positive = labels[held_out] == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _hash(image_ids: pd.Series, split_of: Rows) -> str:
    lines = sorted(f"{image_id}\t{PARTS[index]}" for image_id, index in zip(image_ids, split_of, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def numbers_of(cohort: Cohort, *splits: Rows) -> dict[str, float]:
    """Sizes, patients, positives and prevalence of the rows in train, val and test."""
    numbers: dict[str, float] = {}
    for name, rows in zip(PARTS, splits, strict=True):
        table = cohort.table.iloc[rows]
        numbers |= {
            f"split/{name}_images": len(table),
            f"split/{name}_patients": int(table["patient_id"].nunique()),
            f"split/{name}_positives": int(table["label"].sum()),
            f"split/{name}_prevalence": float(table["label"].mean()),
        }
    return numbers
