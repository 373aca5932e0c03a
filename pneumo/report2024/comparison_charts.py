"""Charts of the report's experiments beside the runs that reproduce them: a row an experiment, and confusion
matrices side by side."""

from collections.abc import Mapping

import numpy as np

from pneumo.display.charts import BLUE, GREEN, GREY, RED, Chart
from pneumo.display.format import counted, decimal
from pneumo.display.pages import Section
from pneumo.evaluation.charts import REFERENCE, add_intervals, confusions, figure_titled, name_rows
from pneumo.evaluation.metrics import NO_INTERVAL, Confusion, Interval, Ranking
from pneumo.report2024.collect import CONTROL, CollectedRuns
from pneumo.report2024.confusion_search import Matrix
from pneumo.report2024.decoded import DecodedTables
from pneumo.report2024.published import IMAGES, SIIM_POSITIVES, row_of
from pneumo.report2024.rescored import THRESHOLD, RescoredRun

REPORT, UNCHANGED, WHOLE, RECOMMENDED = "the report", "unchanged", f"augment={CONTROL}", "recommended"
MARKERS = {  # of who trained it
    REPORT: {"color": GREY, "symbol": "x", "size": 11},
    UNCHANGED: {"color": RED, "symbol": "circle", "size": 11},
    WHOLE: {"color": BLUE, "symbol": "diamond", "size": 12},
    RECOMMENDED: {"color": GREEN, "symbol": "square", "size": 11},
}
OFFSETS = {UNCHANGED: -0.15, WHOLE: 0.15}  # of rows, so that no interval hides another
LEGEND = (
    f"✕ the report, on its own images. Runs here: ● the same recipe, ◆ augment={CONTROL} (the whole image), "
    "■ the recommended recipe. Dotted: the share that is positive in SIIM-ACR, and .5, which is chance."
)
PREVALENCE = SIIM_POSITIVES / IMAGES

Value = tuple[float, Interval, str]  # with a note
Rows = Mapping[str, Mapping[str, Value]]  # name of the row -> who -> value


def overview(
    collected: CollectedRuns, rescored: Mapping[str, RescoredRun], tables: DecodedTables
) -> dict[str, list[Chart]]:
    """Charts of the shares called positive, of the report's "ROC-AUC" and of the AUROC, by their caption."""
    of_runs = {
        pair.experiment: {
            who: rescored[run.run_id]
            for who, run in ((UNCHANGED, pair.unchanged), (WHOLE, pair.control))
            if run
        }
        for pair in collected.pairs
    }
    if best := collected.recommended:
        of_runs[RECOMMENDED] = {RECOMMENDED: rescored[best.run_id]}
    called: dict[str, dict[str, Value]] = {}
    hard: dict[str, dict[str, Value]] = {}
    ranked: dict[str, dict[str, Value]] = {}
    for name, runs in of_runs.items():
        called[name] = {who: value for who, run in runs.items() if (value := called_positive(run))}
        hard[name] = {who: value for who, run in runs.items() if (value := metric(run, "hard_auroc"))}
        ranked[name] = {who: value for who, run in runs.items() if (value := metric(run, "auroc"))}
        if (row := row_of(name)) and (matrix := tables.matrices.get(name)):
            share = (matrix.tp + matrix.fp) / matrix.images
            called[name][REPORT] = (share, NO_INTERVAL, f"of {matrix.images:,} images of {matrix.split}")
            hard[name][REPORT] = (float(row.roc_auc), NO_INTERVAL, f"on {matrix.split}")
    charts = [
        dumbbells(called, "Called positive at P = .5", "share of the images", PREVALENCE),
        dumbbells(hard, "The report's “ROC-AUC”", "hard AUROC", 0.5),
    ]
    if any(ranked.values()):
        charts.append(dumbbells(ranked, "AUROC", "not given by the report", 0.5))
    return {LEGEND: charts}


def called_positive(run: RescoredRun) -> Value | None:
    """The share of its images that a run calls positive; None where its predictions are gone."""
    if not len(run.scores):
        return None
    share = run.n_predicted_positive / len(run.scores)
    return share, NO_INTERVAL, f"of {counted(len(run.scores), 'image')} of {run.split}"


def metric(run: RescoredRun, name: str) -> Value | None:
    """None where it is not known."""
    value, ends = run.metrics.get(name, (np.nan, NO_INTERVAL))
    return (value, ends, f"on {run.split}") if np.isfinite(value) else None


def dumbbells(rows: Rows, title: str, axis: str, reference: float) -> Chart:
    """A row for each experiment of which there is a value, with a line from its lowest to its highest, and a
    dotted line at `reference`."""
    names = [name for name, values in rows.items() if values]
    figure = figure_titled(title, 120 + 44 * len(names))
    for place, name in enumerate(names):
        ends = [value for value, *_ in rows[name].values()]
        figure.add_scatter(
            x=[min(ends), max(ends)],
            y=[place, place],
            mode="lines",
            line={"color": GREY, "width": 4},
            opacity=0.45,
            hoverinfo="skip",
        )
    for who, marker in MARKERS.items():
        of = [(place, rows[name][who]) for place, name in enumerate(names) if who in rows[name]]
        add_intervals(
            figure,
            [place + OFFSETS.get(who, 0) for place, _ in of],
            [value for _, (value, _, _) in of],
            [ends for _, (_, ends, _) in of],
            who,
            marker,
            [note for _, (_, _, note) in of],
        )
    figure.add_vline(x=reference, line=REFERENCE)
    figure.update_xaxes(title=axis)
    figure.update_layout(showlegend=False)
    name_rows(figure, names)
    said = [
        f"{name} ({', '.join(f'{who} {decimal(value)}' for who, (value, *_) in rows[name].items())})"
        for name in names
    ]
    return Chart(figure, f"{title}, {axis}; dotted: {decimal(reference)}. {'; '.join(said)}.")


def confusion_section(
    collected: CollectedRuns, rescored: Mapping[str, RescoredRun], tables: DecodedTables
) -> Section:
    """The matrices behind the report's metrics, each beside those of the runs here."""
    charts = []
    for pair in collected.pairs:
        if pair.experiment not in tables.matrices:
            continue
        matrix = tables.matrices[pair.experiment]
        matrices = {f"the report, {matrix.split}": counts_of(matrix)}
        for name, run in ((UNCHANGED, pair.unchanged), (WHOLE, pair.control)):
            if run and len(rescored[run.run_id].scores):
                matrices[name] = counts_at(rescored[run.run_id], THRESHOLD)
        charts.append(confusions(matrices, pair.experiment))
    text = (
        "The report does not print its confusion matrices; these are computed from its metrics. PTX is a "
        "pneumothorax: at the lower left are those that were missed, at the upper right false alarms. Of a "
        "model that calls nearly every image negative, the right column is all but empty."
    )
    return Section("Confusion matrices, the report's and those of the runs here", [text], plots={"": charts})


def counts_of(matrix: Matrix) -> np.ndarray:
    """(2, 2)"""
    return np.array([[matrix.tn, matrix.fp], [matrix.fn, matrix.tp]])


def counts_at(run: RescoredRun, threshold: float) -> np.ndarray:
    """(2, 2) of the run's predictions."""
    at = Confusion.at(Ranking.of(run.labels, run.scores), threshold)
    return np.array([[at.tn[0], at.fp[0]], [at.fn[0], at.tp[0]]])
