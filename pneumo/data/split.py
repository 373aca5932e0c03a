"""Train, validation and test: patient-disjoint and stratified, with a sentinel that shows a leak.

Patients are dealt into many equal bins, those with most images first, each into the bin that holds least
of what they bring (positives and negatives); the bins are then drawn for the parts by the seed. So a
patient of 61 images is as likely to be tested on as one of a single image, and sizes and prevalences
still come out close.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import Source
from pneumo.errors import InputError

Rows = npt.NDArray[np.int64]

PARTS = ("train", "val", "test")
BINS = (14, 3, 3)  # of 20: .70, .15, .15
BINS_WITHOUT_TEST = (14, 3)  # .15 of .85, where the test part is given
DRAWS, EVEN = 2000, 0.03  # at most so many draws for counts within 3% of the shares; else the best
COLUMN_VALUES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
ALIKE_SHARE, ALIKE_IMAGES = 0.98, 200  # patients / images from which on a patient id tells nothing


@dataclass(frozen=True)
class Split:
    """Row numbers of the cohort, each in one part, and what to say and log of them."""

    train: Rows
    val: Rows
    test: Rows
    hash: str  # of image ids and parts, independent of the order of rows
    leak_risk: str | None  # why one patient may lie in two parts
    notes: tuple[str, ...]
    patient_memory_auc: float  # test images scored by their patient's mean training label; .5: nothing leaks
    numbers: dict[str, float]  # sizes, patients, positives and prevalence, to be logged


def split_cohort(cohort: Cohort, source: Source) -> Split:
    """Divide a cohort as its source says. Raises InputError where a part would have one class only."""
    labels = cohort.table["label"].to_numpy(np.int64)
    groups = cohort.groups()
    alone = np.arange(len(cohort))
    if source.split == "patient":
        part = deal(groups, labels, BINS, source.split_seed)
    elif source.split == "image":
        part = deal(alone, labels, BINS, source.split_seed)
    elif source.split == "folds":
        part = _of_fold(
            deal(groups, labels, (1,) * source.folds, source.split_seed), source.folds, source.fold
        )
    else:
        part = _of_column(cohort, groups, labels, source)
    _need_both_classes(part, labels, source.split)
    risk, notes = _leak_risk(cohort, groups, part, source)
    if source.split in ("patient", "folds"):
        assert (pd.Series(part).groupby(groups).nunique() == 1).all(), "a patient lies in two parts"
    memory_val, memory_test = (_patient_memory_auc(part, index, groups, labels) for index in (1, 2))
    train, val, test = (np.flatnonzero(part == index) for index in range(3))
    return Split(
        train=train,
        val=val,
        test=test,
        hash=_hash(cohort.table["image_id"], part),
        leak_risk=risk,
        notes=notes,
        patient_memory_auc=memory_test,
        numbers=numbers_of(cohort, train, val, test)
        | {"split/patient_memory_auc": memory_test, "split/patient_memory_auc_val": memory_val},
    )


def deal(groups: Rows, labels: Rows, bins: Sequence[int], seed: int) -> Rows:
    """Deal whole groups into parts that hold bins[i] of sum(bins) of the positives and of the negatives.

    groups and labels are (N,); returns the part of each image, (N,).
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
    part_of_bin = _drawn(held, bins, random)
    return part_of_bin[bin_of[member]]


def _drawn(held: npt.NDArray[np.float64], bins: Sequence[int], random: np.random.Generator) -> Rows:
    """Draw bins for the parts until every part has about its share of positives and of negatives."""
    parts = np.repeat(np.arange(len(bins)), bins)
    draws = random.permuted(np.tile(parts, (DRAWS, 1)), axis=1)
    got = np.stack([(draws == part) @ held for part in range(len(bins))], axis=1)  # (draws, parts, classes)
    wanted = np.outer(np.array(bins) / sum(bins), held.sum(axis=0))
    unevenness = np.abs(got / np.maximum(wanted, 1) - 1).max(axis=(1, 2))
    even = unevenness <= max(EVEN, unevenness.min())
    drawn: Rows = draws[even.argmax()]  # the first: always the best would always train on the largest patient
    return drawn


def _of_fold(fold_of: Rows, folds: int, fold: int) -> Rows:
    """Fold `fold` is test, the next one val, the rest train."""
    part = np.zeros_like(fold_of)
    part[fold_of == (fold + 1) % folds] = 1
    part[fold_of == fold] = 2
    return part


def _of_column(cohort: Cohort, groups: Rows, labels: Rows, source: Source) -> Rows:
    said = cohort.table[source.split_column].astype(str).str.lower()
    unknown = ~said.isin(list(COLUMN_VALUES))
    if unknown.any():
        row = int(unknown.to_numpy().argmax())
        raise InputError(
            f'{cohort.table["where"].iloc[row]}: {source.split_column} is "{said.iloc[row]}", must be train, '
            f"val or test ({int(unknown.sum()):,} such rows)"
        )
    part = np.array(said.map(COLUMN_VALUES), np.int64)
    if not (part == 1).any():
        train = part == 0
        if not train.any():
            raise InputError(f"data.split_column={source.split_column} says train of no image")
        part[train] = deal(groups[train], labels[train], BINS_WITHOUT_TEST, source.split_seed)
    return part


def _need_both_classes(part: Rows, labels: Rows, split: str) -> None:
    for index, name in enumerate(PARTS):
        images, positives = int((part == index).sum()), int(labels[part == index].sum())
        if positives in (0, images):
            raise InputError(
                f"data.split={split}: {name} has {images:,} images, {positives:,} of them positive; it needs "
                f"both classes ({int(labels.sum()):,} of all {len(labels):,} images are positive)"
            )


def _leak_risk(
    cohort: Cohort, groups: Rows, part: Rows, source: Source
) -> tuple[str | None, tuple[str, ...]]:
    """Why one patient may lie in two parts, as a short tag, and in a sentence."""
    patients = cohort.table["patient_id"]
    unknown = int(patients.isna().sum())
    images, distinct = len(cohort), patients.nunique()
    if unknown == images:
        return "no patients known", (
            "no patient is known: each image counts as its own, one person may lie in two parts, and this "
            "split may leak; data.patients_csv can say who is who",
        )
    parts_of = pd.Series(part).groupby(groups).nunique()
    shared = int((parts_of > 1).sum())
    if source.split == "image":
        return "image split", (
            f"split by image: {shared:,} patients lie in more than one part, scores will flatter; "
            "data.split=patient keeps them apart",
        )
    if shared:
        return "patients shared by the column", (
            f"{shared:,} patients lie in more than one part of the column {source.split_column}: "
            "scores will flatter",
        )
    if distinct + unknown > ALIKE_SHARE * images and images > ALIKE_IMAGES:
        return "patients about as many as images", (
            f"{images:,} images of {distinct:,} patients: about one each, so the patient ids may not name "
            "people, and this split may leak",
        )
    if unknown:
        return "some patients unknown", (
            f"{unknown:,} of {images:,} images have no known patient; each counts as its own",
        )
    return None, ()


def _patient_memory_auc(part: Rows, index: int, groups: Rows, labels: Rows) -> float:
    """How well the mean training label of its own patient predicts a held-out label, without a pixel.

    Area under the ROC curve, ties as halves; patients without a training image get the training prevalence.
    """
    train = part == 0
    memory = pd.Series(labels[train]).groupby(groups[train]).mean()
    held_out = part == index
    scores = pd.Series(groups[held_out]).map(memory).fillna(labels[train].mean())
    ranks = scores.rank().to_numpy()
    positive = labels[held_out] == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _hash(image_ids: pd.Series, part: Rows) -> str:
    lines = sorted(f"{image_id}\t{PARTS[index]}" for image_id, index in zip(image_ids, part, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def numbers_of(cohort: Cohort, *parts: Rows) -> dict[str, float]:
    """Sizes, patients, positives and prevalence of the rows in train, val and test."""
    numbers: dict[str, float] = {}
    for name, rows in zip(PARTS, parts, strict=True):
        table = cohort.table.iloc[rows]
        numbers |= {
            f"split/{name}_images": len(table),
            f"split/{name}_patients": int(table["patient_id"].nunique()),
            f"split/{name}_positives": int(table["label"].sum()),
            f"split/{name}_prevalence": float(table["label"].mean()),
        }
    return numbers
