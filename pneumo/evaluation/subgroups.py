"""The metrics of subgroups of the images: by lesion size, view, sex, style, age and kind of
negative.

N images"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pneumo.evaluation.metrics import (
    FEW_PATIENTS,
    Array,
    Interval,
    Ranking,
    auroc,
    bootstrap_intervals,
    compute_metrics,
    fewest_patients,
)
from pneumo.evaluation.results import LogOddsPredictions

SMALL, MEDIUM = 0.0051, 0.0131  # tertiles of SIIM-ACR's lesions, as shares of the image
SIZES = {"small": (0.0, SMALL), "medium": (SMALL, MEDIUM), "large": (MEDIUM, 1.0)}
AGES = ((0, 18, "under 18"), (18, 40, "18 to 39"), (40, 65, "40 to 64"), (65, 200, "65 and over"))
SHOWN = ("auroc", "recall", "specificity")


@dataclass(frozen=True)
class Subgroup:
    kind: str
    name: str
    n_images: int
    n_patients: int
    n_positive: int
    metrics: dict[str, float]  # SHOWN
    intervals: dict[str, Interval]
    verdict: str  # of its AUROC against that of all images


def named_size(size: str) -> str:
    """One of SIZES with its upper end, as a page shows it."""
    high = SIZES[size][1]
    return f"{size}, up to {high:.2%}" if high < 1 else size


def groups(table: pd.DataFrame, labels: Array) -> Iterator[tuple[str, str, Array]]:
    """Kind, name and rows (N,) bool of every group, by those of these columns that the table has:
    lesion_share (of the image's area, NaN where not known), view, sex, style (of the phantom),
    age (years), hard_negative (bool). A group of positives is compared with all negatives, hard negatives
    with all positives."""
    negative = labels == 0
    if "lesion_share" in table:
        share = table["lesion_share"].to_numpy(float)
        for size, (low, high) in SIZES.items():
            yield "lesion", named_size(size), negative | ((share > low) & (share <= high))
    for kind in ("view", "sex", "style"):
        if kind in table:
            yield from (
                (kind, str(name), table[kind].to_numpy() == name)
                for name in sorted(table[kind].dropna().unique())
            )
    if "age" in table:
        age = table["age"].to_numpy(float)
        yield from (("age", name, (age >= low) & (age < high)) for low, high, name in AGES)
    if "hard_negative" in table:
        hard = table["hard_negative"].to_numpy(bool)
        yield "negatives", "hard ones", ~negative | hard
        yield "negatives", "others", ~negative | ~hard


def subgroups(predictions: LogOddsPredictions, table: pd.DataFrame, draws: int = 2000) -> list[Subgroup]:
    """Those of `groups` that have an image; one of a single class has no AUROC."""
    whole = float(auroc(Ranking.of(predictions.labels, predictions.log_odds))[0])
    found = []
    for kind, name, rows in groups(table, predictions.labels):
        subset = predictions.subset(rows)
        if len(subset.labels):
            found.append(evaluate_subgroup(kind, name, subset, whole, draws))
    return found


def evaluate_subgroup(kind: str, name: str, subset: LogOddsPredictions, whole: float, draws: int) -> Subgroup:
    metrics = compute_metrics(subset.labels, subset.log_odds, subset.threshold)
    intervals = bootstrap_intervals(subset.labels, subset.log_odds, subset.patients, subset.threshold, draws)
    low, high = intervals["auroc"]
    fewest, _ = fewest_patients(subset.labels, subset.patients)
    if not fewest:
        verdict = f"none is {'negative' if subset.labels.all() else 'positive'}"
    elif fewest < FEW_PATIENTS:
        verdict = f"only {fewest} patient{'s' if fewest > 1 else ''} of a class"
    else:
        verdict = "lower" if high < whole else "higher" if low > whole else "like all"
    return Subgroup(
        kind,
        name,
        len(subset.labels),
        len(np.unique(subset.patients)),
        int(subset.labels.sum()),
        {name: metrics[name] for name in SHOWN},
        {name: intervals[name] for name in SHOWN},
        verdict,
    )
