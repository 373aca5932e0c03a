"""An evaluation as a page: charts that follow a threshold first, then the tables, folded."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit

from pneumo.display import pages
from pneumo.display.format import with_interval
from pneumo.display.pages import Plot, Section
from pneumo.evaluation import charts
from pneumo.evaluation.operating_points import OperatingPoints
from pneumo.evaluation.results import Evaluation
from pneumo.evaluation.subgroups import Subgroup


def sections(
    text: Sequence[Section],
    evaluation: Evaluation,
    groups: Sequence[Subgroup],
    galleries: Mapping[str, Plot] | None = None,
) -> list[Section]:
    """The sections of a page: the first of `text`, charts, the galleries by caption, and the rest of `text`
    folded."""
    first, *rest = text
    seen = [
        operating_point(evaluation),
        *subgroups(evaluation, groups),
        *pages.plot_sections(galleries or {}),
    ]
    return pages.pictures_first([first, *seen, *rest])


def operating_point(evaluation: Evaluation) -> Section:
    """Charts that follow a slider of the threshold and one of the prevalence."""
    predictions = evaluation.predictions
    labels, p = predictions.labels, expit(predictions.log_odds)
    threshold = float(expit(predictions.threshold))
    points = OperatingPoints.of(labels, p, threshold)
    auroc, auprc = (
        with_interval(evaluation.metrics[name], evaluation.intervals[name]) for name in ("auroc", "auprc")
    )
    curves = [
        charts.roc(points, auroc),
        charts.precision_recall(points, auprc),
        charts.reliability(labels, predictions.probabilities),
    ]
    text = (
        "Move the threshold, and the dots, the line in the histogram and the numbers follow; it begins at "
        "the model's own. PPV, NPV and the numbers of 1,000 are those at the chosen prevalence, by Bayes' "
        "theorem from sensitivity and specificity; it begins at the prevalence of these images."
    )
    return Section(
        "What a threshold finds and misses",
        [text],
        plots={
            "": curves,
            "P(pneumothorax) of the images": [charts.score_distribution(labels, p, threshold)],
        },
        controls=pages.fragment("operating_point.html", points=points.content()),
    )


def subgroups(evaluation: Evaluation, groups: Sequence[Subgroup]) -> list[Section]:
    """A chart of those that have an AUROC, if any."""
    rows = [one for one in groups if np.isfinite(one.metrics["auroc"])]
    if not rows:
        return []
    chart = charts.forest(rows, evaluation.metrics["auroc"], evaluation.intervals["auroc"])
    text = "Dotted: the AUROC of all images, and its interval as a band."
    return [Section("AUROC of subgroups", [text], plots={"": [chart]})]
