"""An evaluation as sections of text and tables, as plots and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit

from pneumo.display.format import (
    counted,
    decimal,
    decimal_or_dash,
    interval,
    probability,
    signed_decimal,
    with_interval,
)
from pneumo.display.pages import Section
from pneumo.evaluation import plots
from pneumo.evaluation.metric_names import Kind, of_kind, title
from pneumo.evaluation.metrics import FEWEST_PATIENTS, fewest_patients
from pneumo.evaluation.platt import UNSCALED
from pneumo.evaluation.results import Comparison, Evaluation
from pneumo.evaluation.subgroups import SHOWN, Subgroup

INTERVAL = "95% interval"
OF_SUBGROUPS = "AUROC, 95% interval; dotted: all images"


def sections(
    evaluation: Evaluation, groups: Sequence[Subgroup], title: str, notes: Sequence[str]
) -> list[Section]:
    predictions = evaluation.predictions
    patients, positive = predictions.patients, predictions.labels == 1
    if predictions.patients_known:
        images = f"{len(positive):,} images of {len(np.unique(patients)):,} patients"
        ill = f"{int(positive.sum()):,} positive in {len(np.unique(patients[positive])):,} patients"
        drawn = "Intervals: 2,000 draws of patients."
    else:
        images, ill = f"{len(positive):,} images of unknown patients", f"{int(positive.sum()):,} positive"
        drawn = "Intervals: 2,000 draws of images, which are too narrow if a patient has several."
    fewest, rarest = fewest_patients(predictions.labels, patients)
    if fewest < FEWEST_PATIENTS:
        of = counted(fewest, f"{rarest} {'patient' if predictions.patients_known else 'image'}")
        drawn = f"No intervals: only {of}, which are too few to resample."
    elif most := max(evaluation.left_out.values()):
        drawn += (
            f" In up to {most:,} of them a metric is not defined, as without a positive or a negative image, "
            "with nothing called positive or, for the slope, with one class wholly above the other; they "
            "are left out of its interval."
        )
    text = [f"{images}, {ill}. {drawn}", *notes]
    return [
        Section(title, text),
        _ranking(evaluation),
        _at_threshold(evaluation),
        _calibration(evaluation),
        *([_subgroups(groups, predictions.patients_known)] if groups else []),
    ]


def _ranking(evaluation: Evaluation) -> Section:
    low, high = evaluation.delong
    prevalence = float(np.mean(evaluation.predictions.labels))
    by_delong = f"AUROC by DeLong, which takes images as independent: {decimal(low)} - {decimal(high)}."
    text = [
        *([by_delong] if np.isfinite(low) else []),
        f"A model that knows nothing has AUROC .5 and AUPRC {decimal(prevalence)}, the prevalence.",
    ]
    if evaluation.intervals["auroc"][0] <= 0.5:
        text.append("This model is NOT SHOWN to rank better: the interval of its AUROC reaches .5.")
    return Section("Ranking", text, ["", "", INTERVAL], rows_of(evaluation, "ranking"))


def _at_threshold(evaluation: Evaluation) -> Section:
    predictions = evaluation.predictions
    called = predictions.log_odds >= predictions.threshold
    tp, fp = (int((called & (predictions.labels == label)).sum()) for label in (1, 0))
    fn, tn = (int((~called & (predictions.labels == label)).sum()) for label in (1, 0))
    text = [
        f"P at or above {probability(float(expit(predictions.threshold)))} is called positive.",
        f"{tp:,} true and {fp:,} false positives, {fn:,} false and {tn:,} true negatives.",
    ]
    return Section("At the threshold", text, ["", "", INTERVAL], rows_of(evaluation, "threshold"))


def _calibration(evaluation: Evaluation) -> Section:
    rows = []
    for key, name in of_kind("calibration", evaluation.metrics):
        cells = [
            cell
            for variant in (key, f"calibrated_{key}")
            for cell in (
                decimal_or_dash(evaluation.metrics[variant]),
                interval(evaluation.intervals[variant]),
            )
        ]
        rows.append([name.with_note, *cells])
    scaling = evaluation.predictions.scaling
    text = ["P is not scaled: that needs validation images of both classes."]
    if scaling != UNSCALED:
        text = [f"Scaled P is {scaling}, as validation chose (Platt scaling)."]
    return Section("Calibration", text, ["", "as trained", INTERVAL, "scaled", INTERVAL], rows)


def _subgroups(groups: Sequence[Subgroup], patients_known: bool) -> Section:
    rows = [
        [
            f"{one.kind}: {one.name}",
            f"{one.n_images:,} ({one.n_patients:,})" if patients_known else f"{one.n_images:,}",
            f"{one.n_positive:,}",
            *(with_interval(one.metrics[name], one.intervals[name]) for name in one.metrics),
            one.verdict,
        ]
        for one in groups
    ]
    text = [
        "Lesions of a size against all negatives, hard negatives against all positives.",
        "The verdict is on the AUROC's interval against the value for all images.",
    ]
    images = "images (patients)" if patients_known else "images"
    columns = ["", images, "positive", *map(title, SHOWN), "verdict"]
    return Section("Subgroups", text, columns, rows)


def comparison(
    found: Comparison, names: tuple[str, str], title: str, patients_known: bool, notes: Sequence[str] = ()
) -> Section:
    """Unless `patients_known`, images are resampled."""
    change, test = found.by_delong.value, found.by_delong
    clear = found.by_patients[0] > 0 or found.by_patients[1] < 0
    rows = [
        [f"AUROC of {names[0]}", decimal(found.aurocs[0]), ""],
        [f"AUROC of {names[1]}", decimal(found.aurocs[1]), ""],
        [
            f"difference, {'patients' if patients_known else 'images'} resampled",
            signed_decimal(change),
            interval(found.by_patients),
        ],
    ]
    better = names[1] if change > 0 else names[0]
    text = [f"{better} ranks these images better." if clear else "No evidence that either is better."]
    if np.isfinite(test.p):
        name = f"difference, DeLong (p {test.p:.2g})"
        rows.append([name, signed_decimal(change), interval(test.interval)])
    else:
        text = [f"No intervals: fewer than {FEWEST_PATIENTS} patients of a class are too few to resample."]
    if not patients_known:
        text.append("Patients are not known: intervals are too narrow if a patient has several images.")
    return Section(title, [*text, *notes], ["", "", INTERVAL], rows)


def plots_of(evaluation: Evaluation, groups: Sequence[Subgroup], title: str) -> Iterator[tuple[str, Figure]]:
    """Pairs of a caption and a plot."""
    predictions = evaluation.predictions
    p = expit(predictions.log_odds)
    yield (
        "ROC and precision-recall",
        plots.ranking(predictions.labels, p, float(expit(predictions.threshold)), title),
    )
    yield "Reliability", plots.reliability(predictions.labels, predictions.probabilities, title)
    if groups:
        rows = [
            (f"{one.kind}: {one.name}", one.metrics["auroc"], one.intervals["auroc"])
            for one in groups
            if np.isfinite(one.metrics["auroc"])
        ]
        yield "Subgroups", plots.forest(rows, evaluation.metrics["auroc"], title, OF_SUBGROUPS)


def as_json(evaluation: Evaluation, groups: Sequence[Subgroup]) -> str:
    """The metrics, intervals and subgroups as JSON; NaN becomes null."""
    content = {
        "n_images": len(evaluation.predictions.labels),
        "n_positive": int(evaluation.predictions.labels.sum()),
        "threshold": float(expit(evaluation.predictions.threshold)),
        "scaling": asdict(evaluation.predictions.scaling),
        "metrics": evaluation.metrics,
        "intervals": evaluation.intervals,
        "draws_left_out": evaluation.left_out,
        "auroc_delong": evaluation.delong,
        "subgroups": [vars(one) for one in groups],
    }
    return json.dumps(nan_as_none(content), indent=1, allow_nan=False)


def nan_as_none(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: nan_as_none(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [nan_as_none(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def rows_of(evaluation: Evaluation, kind: Kind) -> list[list[str]]:
    return [
        [name.with_note, decimal_or_dash(evaluation.metrics[key]), interval(evaluation.intervals[key])]
        for key, name in of_kind(kind, evaluation.metrics)
    ]
