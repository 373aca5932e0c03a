"""The sections that compare the report's experiments with the runs that reproduce them."""

from collections.abc import Mapping

from pneumo.display.format import decimal, duration
from pneumo.display.pages import Cell, Link, Section
from pneumo.evaluation.metric_names import title
from pneumo.report2024.collect import CONTROL, CollectedRuns
from pneumo.report2024.decoded import DecodedTables
from pneumo.report2024.published import SPLITS, row_of
from pneumo.report2024.rescored import RescoredRun
from pneumo.runs.query import RunRecord, metric_history

NOT_TRAINED = "not trained yet"
METRICS = ("auroc", "hard_auroc", "accuracy", "precision", "recall", "f1")
RescoredRuns = Mapping[str, RescoredRun]  # by run id


def headline(collected: CollectedRuns, rescored: RescoredRuns, tables: DecodedTables) -> list[str]:
    """The main results, one sentence each."""
    sentences = [
        "The report trained a ResNet-50 on the radiographs of SIIM-ACR, and it did not learn. This page has "
        "the report's metrics beside those of runs that repeat its experiments.",
        f"{tables.n_on_train} of the report's {len(tables.matrices)} rows were measured on its own training "
        'split, and its "ROC-AUC" is that of 0/1 predictions.',
    ]
    complete = [(pair.unchanged, pair.control) for pair in collected.pairs]
    both = [(unchanged, control) for unchanged, control in complete if unchanged and control]
    if both:
        n_collapsed = [sum(collapsed(pair[side]) for pair in both) for side in (0, 1)]
        better = sum(rescored[two.run_id].auroc > rescored[one.run_id].auroc for one, two in both)
        sentences.append(
            f"Experiments run here both unchanged and with augment={CONTROL} (the whole image instead of a "
            f"crop), all else equal: {len(both)}. Of these, {n_collapsed[0]} collapsed unchanged and "
            f"{n_collapsed[1]} with the whole image; the whole image gave the higher AUROC in {better}."
        )
    if best := collected.recommended:
        one = rescored[best.run_id]
        suffix = ", and its model collapsed" if collapsed(best) else ""
        sentences.append(
            f"The recommended recipe reached a {one.split} AUROC of {one.formatted('auroc')}{suffix}."
        )
    if collected.missing:
        sentences.append(
            f"UNFINISHED: {len(collected.missing)} runs have not been trained yet. The last section lists "
            "the commands that train them."
        )
    return sentences


def collapsed(run: RunRecord) -> bool:
    return run.tags.get("collapsed") == "true"


def metrics_section(collected: CollectedRuns, rescored: RescoredRuns, tables: DecodedTables) -> Section:
    """Three rows for each experiment: as published, unchanged, and control. The recommended run is last."""
    rows: list[list[Cell]] = []
    for pair in collected.pairs:
        rows.append(published_cells(pair.experiment, tables))
        rows.append(["here, unchanged", *run_cells(pair.unchanged, rescored)])
        rows.append([f"here, augment={CONTROL}", *run_cells(pair.control, rescored)])
    rows.append(["recommended", *run_cells(collected.recommended, rescored)])
    text = [
        "The runs here are evaluated on their test split (on val where the test split was not evaluated). "
        "As in the report, an image is predicted positive from P = .5. Brackets hold 95% intervals from "
        "resampled patients. The last but one column counts the images predicted positive, of all images, "
        "and in brackets those that are positive; hard AUROC is the AUROC of these 0/1 predictions. The "
        "report gives no AUROC of the scores. Its rows are of other images: compare whether a recipe learns "
        "at all, not the values.",
        f"The control is the same run with augment={CONTROL}: seed, images, split and settings are equal, "
        "but the model sees the whole image instead of a crop. Image sizes: see the configurations below.",
    ]
    columns = ["experiment", *map(title, METRICS), "predicted positive", "run"]
    return Section("Metrics of the report and of the runs here", text, columns, rows)


def published_cells(experiment: str, tables: DecodedTables) -> list[Cell]:
    row = row_of(experiment)
    if row is None:
        return [f"{experiment}: the report", "no row given", *[""] * 7]
    matrix = tables.matrices[experiment]
    predicted = matrix.tp + matrix.fp
    has_collapsed = predicted < matrix.positives / 5  # as metrics.calls_one_class
    counts = predicted_positive(predicted, matrix.images, matrix.positives, has_collapsed)
    metrics = [row.roc_auc, row.accuracy, row.precision, row.recall, row.f1]
    return [f"{experiment}: the report, on {matrix.split}", "not given", *metrics, counts, ""]


def run_cells(run: RunRecord | None, rescored: RescoredRuns) -> list[Cell]:
    if run is None:
        return [NOT_TRAINED, *[""] * 7]
    one = rescored[run.run_id]
    values = [one.formatted(name) for name in METRICS]
    return [*values, predictions_of(run, one), Link(run.name, run.address)]


def predictions_of(run: RunRecord, one: RescoredRun) -> str:
    """How many images the run predicts positive at P = .5, and whether it collapsed."""
    if not len(one.scores):
        return "its predictions are gone"
    counts = one.n_predicted_positive, len(one.scores), int(one.labels.sum())
    return predicted_positive(*counts, collapsed(run))


def predicted_positive(predicted: int, images: int, positives: int, has_collapsed: bool) -> str:
    return f"{'collapsed: ' * has_collapsed}{predicted:,} of {images:,} ({positives:,} are)"


def settings_section(collected: CollectedRuns) -> Section:
    rows: list[list[Cell]] = []
    for run in collected.runs:
        p, tags, metrics = run.parameters, run.tags, run.metrics
        images = sum(metrics.get(f"split/{split}_images", 0) for split in SPLITS)
        data = f"{tags.get('data', '?')}, {images:,.0f} at {p.get('data.image_side_px', '?')} px"
        epochs = f"{epochs_trained(run)} of {p.get('fit.epochs', '?')}"
        batch, seed = f"{metrics.get('effective_batch', 0):.0f}", p.get("seed", "?")
        row = [tags.get("overrides", ""), data, tags.get("model", "?"), epochs, batch, seed, commit(run)]
        rows.append([Link(run.name, run.address), *row, tags.get("collapse_reason", "")])
    text = ["Each row is a run, in the order of the tables above."]
    if collected.n_on_other_data:
        text.append(
            f"{collected.n_on_other_data} runs of these experiments are left out: their images, labels or "
            "patients differ from those of the latest run."
        )
    if len({commit(run) for run in collected.runs}) > 1:
        text.append("Different versions of the program trained these runs.")
    columns = ["run", "overrides", "images", "model", "epochs", "batch", "seed", "version"]
    return Section("Configurations of the runs", text, [*columns, "likely cause of collapse"], rows)


def epochs_trained(run: RunRecord) -> int:
    """The epochs of a run, without those of an abandoned attempt."""
    return max(metric_history(run.run_id, "val/auroc"), default=0) - int(run.tags.get("rescued_at_epoch", 0))


def commit(run: RunRecord) -> str:
    """The version of the program: its commit, and whether files differed from it."""
    changed = ", changed" if run.tags.get("git_dirty") == "true" else ""
    return run.tags.get("git_commit", "unknown")[:8] + changed


def splits_section(collected: CollectedRuns, tables: DecodedTables) -> Section:
    """Sizes, prevalence and leakage of the report's split and of every split of the runs."""
    published = [
        f"{images:,} images, {tables.positives[split]:,} ({tables.positives[split] / images:.1%}) positive"
        for split, images in SPLITS.items()
    ]
    unknown = "not known: the report states a split by patient, but that release has no patient ids"
    rows: list[list[Cell]] = [["the report", *published, unknown, "not known", ""]]
    for run in {run.tags.get("split_hash"): run for run in collected.runs}.values():
        memory = decimal(run.metrics["split/patient_memory_auc"], 2)
        name = f"{run.tags.get('data', '?')}, split {run.tags.get('split_hash', '?')}"
        sizes = [size(run, split) for split in SPLITS]
        rows.append([name, *sizes, leak(run), memory, Link(run.name, run.address)])
    text = (
        "Patient memory is the AUROC with which the mean training label of the same patient, without any "
        "pixel, predicts the label of a test image: .5 without leakage, and .82 on SIIM-ACR split by image. "
        "The report's numbers of positives are those of the confusion matrices above."
    )
    columns = ["split of", *SPLITS, "patients in two splits", "patient memory", "a run on it"]
    return Section("Splits and leakage", [text], columns, rows)


def size(run: RunRecord, split: str) -> str:
    """420 images of 215 patients, 93 (22.1%) positive"""
    images, patients, positives, share = (
        run.metrics[f"split/{split}_{name}"] for name in ("images", "patients", "positives", "prevalence")
    )
    of = f"{patients:,.0f}" if patients else "unknown"
    return f"{images:,.0f} images of {of} patients, {positives:,.0f} ({share:.1%}) positive"


def leak(run: RunRecord) -> str:
    """Whether a patient may lie in two splits, and why."""
    return run.tags.get("leak_risk", "not known")


def time_section(collected: CollectedRuns) -> Section:
    """Training times; a pass of the report is over all of its training and validation images."""
    images_per_pass = SPLITS["train"] + SPLITS["val"]
    rows: list[list[Cell]] = []
    for pair in collected.pairs:
        row = row_of(pair.experiment)
        seen = int(row.epochs) * images_per_pass if row and row.epochs.isdigit() else None
        speed = f"{seen / float(row.seconds):.1f}" if row and seen else "not known"
        published = [pair.experiment, row.clock if row else "no row given", speed if row else ""]
        if pair.experiment == "report_tta" and row:  # its time is that of the evaluation alone
            speed = f"{SPLITS['test'] / float(row.seconds):.1f}, evaluation alone"
            rows.append([pair.experiment, row.clock, speed, *["not measured"] * 2, "", "", ""])
            continue
        for run in pair.runs:
            rows.append([*published, *time_cells(run, seen)])
            published = ["", "", ""]
        if not pair.runs:
            rows.append([*published, NOT_TRAINED, *[""] * 4])
    text = (
        "Images per second are the training and validation images of all epochs by the seconds of training. "
        "The report's work is its number of passes over its own images, where it gives that number; the "
        "column shows how long this would take at the speed of the run. That can only be compared with the "
        "report's time if model and image size are the same: resnet50 at 224 of 512 px."
    )
    columns = ["experiment", "time in the report", "images/s in the report", "time here", "images/s here"]
    columns += ["model and images", "the report's work at this speed", "run"]
    return Section("Training time", [text], columns, rows)


def time_cells(run: RunRecord, images_of_report: int | None) -> list[Cell]:
    metrics = run.metrics
    images = epochs_trained(run) * (metrics["split/train_images"] + metrics["split/val_images"])
    per_second = images / metrics["fit_seconds"]
    model = f"{run.tags.get('model', '?')} at {run.parameters.get('data.image_side_px', '?')} px"
    work = duration(images_of_report / per_second) if images_of_report else "not known"
    time = duration(metrics["fit_seconds"])
    return [time, f"{per_second:,.0f}", model, work, Link(run.name, run.address)]


def missing_section(collected: CollectedRuns) -> Section:
    rows = [[command] for command in collected.missing]
    text = "All runs have been trained."
    if rows:
        text = "Run these commands in this folder, then pneumo report again:"
    return Section("Runs that have not been trained", [text], ["command"], rows)
