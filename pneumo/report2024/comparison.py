"""Our runs of the report's names: their figures beside its own, and what they were run on."""

from collections.abc import Mapping

from pneumo.display.format import decimal, duration
from pneumo.display.pages import Cell, Link, Section
from pneumo.evaluation.metric_names import title
from pneumo.report2024.collect import CONTROL, CollectedRuns, Pair
from pneumo.report2024.decoded import DecodedTables
from pneumo.report2024.published import SPLITS, row_of
from pneumo.report2024.rescored import RescoredRun
from pneumo.runs.query import RunRecord, metric_history

NOT_RUN = "not run yet"
METRICS = ("auroc", "hard_auroc", "accuracy", "precision", "recall", "f1")
Measures = Mapping[str, RescoredRun]  # by run id


def in_short(gathered: CollectedRuns, measures: Measures, reading: DecodedTables) -> list[str]:
    """A sentence each."""
    on_train = sum(one.split == "train" for one in reading.matrices.values())
    said = [
        f"{on_train} of the report's {len(reading.matrices)} rows are measured on its own training split, "
        'and its "ROC-AUC" is one of 0/1 answers.'
    ]
    pairs = [(pair.own, pair.control) for pair in gathered.pairs]
    both = [(own, control) for own, control in pairs if own and control]
    if both:
        fell, stood = (sum(collapsed(pair[side]) for pair in both) for side in (0, 1))
        better = sum(auroc(control, measures) > auroc(own, measures) for own, control in both)
        said.append(
            f"Of {len(both)} experiments run here as they are and with augment={CONTROL}, all else equal, "
            f"{fell} collapsed as they are and {stood} with the whole image; the whole image has the higher "
            f"AUROC in {better}."
        )
    if best := gathered.recommended:
        one = measures[best.run_id]
        fell_too = ", and it collapsed" if collapsed(best) else ""
        said.append(f"The recommended recipe: {one.part} AUROC {one.said('auroc')}{fell_too}.")
    if gathered.missing:
        count = len(gathered.missing)
        said.append(f"UNFINISHED: {count} runs are not there yet; the last section has their commands.")
    return said


def auroc(run: RunRecord, measures: Measures) -> float:
    return measures[run.run_id].metrics.get("auroc", float("nan"))


def collapsed(run: RunRecord) -> bool:
    return run.tags.get("collapsed") == "true"


def comparison(gathered: CollectedRuns, measures: Measures, reading: DecodedTables) -> Section:
    """Every experiment: the report's row, ours as it is, ours with the whole image; the recommended one."""
    rows = [row for pair in gathered.pairs for row in of_pair(pair, measures, reading)]
    rows.append(["recommended", *cells(gathered.recommended, measures)])
    text = [
        "Ours on the test split (val where a run left it alone), answers counted at P = .5 as the report "
        "counted them, 95% intervals with patients resampled. The report gives no AUROC of scores. Its rows "
        "are of other images: to be read for whether a recipe learns at all.",
        f"The control is the same run with augment={CONTROL}: same seed, images, split and settings, the "
        "whole image instead of the crop. What was run at which size: see below.",
    ]
    columns = ["experiment", *map(title, METRICS), "called positive", "run"]
    return Section("Its runs and ours", text, columns, rows)


def of_pair(pair: Pair, measures: Measures, reading: DecodedTables) -> list[list[Cell]]:
    return [
        of_report(pair.experiment, reading),
        ["ours, as it is", *cells(pair.own, measures)],
        [f"ours, augment={CONTROL}", *cells(pair.control, measures)],
    ]


def of_report(experiment: str, reading: DecodedTables) -> list[Cell]:
    row = row_of(experiment)
    if row is None:
        return [f"{experiment}: the report", "no row given", *[""] * 7]
    one = reading.matrices[experiment]
    fell = (one.tp + one.fp) < one.positives / 5  # as metrics.calls_one_class
    answers = called(one.tp + one.fp, one.images, one.positives)
    metrics = [row.roc_auc, row.accuracy, row.precision, row.recall, row.f1]
    said = f"collapsed: {answers}" if fell else answers
    return [f"{experiment}: the report, on {one.split}", "not given", *metrics, said, ""]


def cells(run: RunRecord | None, measures: Measures) -> list[Cell]:
    if run is None:
        return [NOT_RUN, *[""] * 7]
    one = measures[run.run_id]
    return [*(one.said(name) for name in METRICS), answers(run, one), Link(run.name, run.address)]


def answers(run: RunRecord, one: RescoredRun) -> str:
    if not len(one.scores):
        return "its predictions are gone"
    said = called(one.called, len(one.scores), int(one.labels.sum()))
    return f"collapsed: {said}" if collapsed(run) else said


def called(positive: int, images: int, positives: int) -> str:
    return f"{positive:,} of {images:,} ({positives:,} are)"


def settings(gathered: CollectedRuns) -> Section:
    """What each run was run on; what was typed."""
    rows: list[list[Cell]] = []
    for run in gathered.runs:
        p, metrics = run.parameters, run.metrics
        images = sum(metrics.get(f"split/{part}_images", 0) for part in SPLITS)
        rows.append(
            [
                Link(run.name, run.address),
                run.tags.get("overrides", ""),
                f"{run.tags.get('data', '?')}, {images:,.0f} at {p.get('data.image_side_px', '?')} px",
                run.tags.get("model", "?"),
                f"{epochs(run)} of {p.get('fit.epochs', '?')}",
                f"{metrics.get('effective_batch', 0):.0f}",
                p.get("seed", "?"),
                commit(run),
                run.tags.get("collapse_reason", ""),
            ]
        )
    text = []
    if gathered.n_on_other_data:
        text.append(
            f"{gathered.n_on_other_data} runs of these experiments are left out: they are on other images, "
            "labels or patients than the latest one."
        )
    if len({commit(run) for run in gathered.runs}) > 1:
        text.append("They were made by different versions of the program.")
    columns = [
        "run",
        "typed",
        "images",
        "model",
        "epochs",
        "batch",
        "seed",
        "version",
        "collapsed, likely by",
    ]
    return Section("What was run", text or ["One row a run, in the order above."], columns, rows)


def epochs(run: RunRecord) -> int:
    """That it trained."""
    return max(metric_history(run.run_id, "val/auroc"), default=0)


def commit(run: RunRecord) -> str:
    changed = ", changed" if run.tags.get("git_dirty") == "true" else ""
    return run.tags.get("git_commit", "unknown")[:8] + changed


def splits(gathered: CollectedRuns, reading: DecodedTables) -> Section:
    """Sizes, prevalence and what could leak, of every split that the runs used."""
    said = [
        f"{images:,} images, {reading.positives[part]:,} ({reading.positives[part] / images:.1%}) positive"
        for part, images in SPLITS.items()
    ]
    unknown = "not known: grouped by patient, it says, but that release names none"
    rows: list[list[Cell]] = [["the report", *said, unknown, "not known", ""]]
    for run in {run.tags.get("split_hash"): run for run in gathered.runs}.values():
        parts = [size(run, part) for part in SPLITS]
        memory = decimal(run.metrics["split/patient_memory_auc"], 2)
        name = f"{run.tags.get('data', '?')}, split {run.tags.get('split_hash', '?')}"
        rows.append([name, *parts, leak(run), memory, Link(run.name, run.address)])
    text = (
        "Patient memory: how well a test image's label is predicted by the mean training label of its own "
        "patient, without a pixel; .5 where nothing leaks, .82 on SIIM-ACR split by image. The report's "
        "positives are the decoded ones."
    )
    columns = ["whose", *SPLITS, "one patient in two parts", "patient memory", "a run of it"]
    return Section("Splits and leakage", [text], columns, rows)


def size(run: RunRecord, part: str) -> str:
    """420 images of 215 patients, 93 (22.1%) positive"""
    images, patients, positives, share = (
        run.metrics[f"split/{part}_{name}"] for name in ("images", "patients", "positives", "prevalence")
    )
    of = f"{patients:,.0f}" if patients else "unknown"
    return f"{images:,.0f} images of {of} patients, {positives:,.0f} ({share:.1%}) positive"


def leak(run: RunRecord) -> str:
    """Whether one patient may lie in two parts of the split, and why."""
    risk = run.tags.get("leak_risk", "not known")
    return "none is" if risk == "none" else risk


def hours(gathered: CollectedRuns) -> Section:
    """Its time and ours; a pass is over all training and validation images."""
    a_pass = SPLITS["train"] + SPLITS["val"]
    rows: list[list[Cell]] = []
    for pair in gathered.pairs:
        row = row_of(pair.experiment)
        done = row.epochs * a_pass if row and row.epochs else None
        speed = f"{done / row.seconds:.1f}" if row and done else "not known"
        theirs = [pair.experiment, row.clock if row else "no row given", speed if row else ""]
        if pair.experiment == "report_tta" and row:  # it gives the time of judging alone
            judged = f"{SPLITS['test'] / row.seconds:.1f}, judging alone"
            rows.append([pair.experiment, row.clock, judged, *["not measured"] * 2, "", "", ""])
            continue
        for run in (pair.own, pair.control):
            if run is not None:
                rows.append([*theirs, *pace_of(run, done)])
                theirs = ["", "", ""]
        if pair.own is None and pair.control is None:
            rows.append([*theirs, NOT_RUN, *[""] * 4])
    text = (
        "Images a second: training and validation images of all epochs by the seconds they took. The last "
        "column is the report's number of passes over its images at our pace, where it gives that number; "
        "it compares like with like only where model and side are its own, resnet50 at 224 of 512 px."
    )
    columns = ["experiment", "its time", "its images/s", "ours", "images/s", "of", "its work at this pace"]
    return Section("Hours", [text], [*columns, "run"], rows)


def pace_of(run: RunRecord, done: int | None) -> list[Cell]:
    metrics = run.metrics
    images = epochs(run) * (metrics["split/train_images"] + metrics["split/val_images"])
    a_second = images / metrics["fit_seconds"]
    of = f"{run.tags.get('model', '?')} at {run.parameters.get('data.image_side_px', '?')} px"
    there = duration(done / a_second) if done else "not known"
    return [duration(metrics["fit_seconds"]), f"{a_second:,.0f}", of, there, Link(run.name, run.address)]


def commands(gathered: CollectedRuns) -> Section:
    rows = [[command] for command in gathered.missing]
    text = "All runs are there." if not rows else "In this folder, then pneumo report again:"
    return Section("Not run yet", [text], ["command"], rows)
