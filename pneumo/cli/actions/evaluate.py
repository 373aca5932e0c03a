"""`pneumo evaluate RUN ...` and `pneumo compare RUN RUN`: metrics of runs, alone or paired, on any images."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.pages import Section
from pneumo.errors import InputError
from pneumo.evaluation import page, report
from pneumo.evaluation.results import Evaluation, LogOddsPredictions, compare_auroc
from pneumo.evaluation.subgroups import subgroups
from pneumo.inference.dataset_predictions import EvalPredictions, EvalRequest, predict_dataset
from pneumo.inference.evaluation_count import record_test_evaluation
from pneumo.inference.gallery import gallery
from pneumo.inference.localisation import TITLE, measure_localisation, sections
from pneumo.inference.model import LoadedModel, load_model
from pneumo.inference.saliency import NoFeatureMapsError
from pneumo.runs import query, tracking
from pneumo.training.predict import Predictions


def evaluate(names: Sequence[str], request: EvalRequest, with_maps: bool = True) -> dict[str, Any]:
    """Evaluates one run, or several as one ensemble, and logs the results to the run; returns the metrics.
    `with_maps`: also how far a single run's saliency maps meet the annotated lesions. InputError: a run or a
    word of the request is wrong, or the images have one class only."""
    terminal = Terminal()
    tracking.connect()
    models = [load_model(name) for name in names]
    evaluated = predict_dataset(models, request, terminal)
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(evaluated.predictions)
        groups = subgroups(evaluated.predictions, evaluated.subgroup_table)
    cohort = evaluated.dataset.cohort.name
    names = [query.run_name(model.run_id) for model in models]
    who = names[0] if len(names) == 1 else f"ensemble of {', '.join(names)}"
    title = f"{who} on {cohort}, {request.resolved_split}"
    text = report.sections(evaluation, groups, title, evaluated.notes)
    single = len(models) == 1 and with_maps
    maps, galleries = saliency(models[0], evaluated, terminal) if single else ([], {})
    text += maps
    figures = dict(report.plots_of(evaluation, groups, title)) | galleries
    content = report.as_json(evaluation, groups)
    record_test_evaluation(models, evaluated.n_in_test)  # before anyone sees it
    pages.print_sections(text, terminal)
    run_id = models[0].run_id if len(models) == 1 else ensemble_run(models)
    place = evaluated.artifact_folder
    with terminal.waiting("plots"):
        plots = {caption: pages.png(figure) for caption, figure in figures.items()}
    for caption, image in plots.items():
        tracking.log_bytes(run_id, image, f"{place}/{caption.lower().replace(' ', '-')}.png")
    tracking.log_text(run_id, pages.markdown(text), f"{place}/evaluation.md")
    shown = page.sections(text, evaluation, groups, {caption: plots[caption] for caption in galleries})
    tracking.log_text(run_id, pages.html(shown), f"{place}/evaluation.html")
    tracking.log_text(run_id, content, f"{place}/evaluation.json")
    tracking.log_text(run_id, predictions_csv(evaluated), f"{place}/predictions.csv")
    tracking.log_run(run_id, evaluation.named(evaluated.metric_prefix))
    if len(models) > 1:
        tracking.end_run(run_id, "FINISHED")
    terminal.say("written", f"{place} of run {run_id}, and its metrics {evaluated.metric_prefix}/...")
    of = {"run_id": run_id, "data": cohort, "split": evaluated.split, "tta": evaluated.tta}
    return {**of, **json.loads(content)}


def saliency(
    model: LoadedModel, evaluated: EvalPredictions, terminal: Terminal
) -> tuple[list[Section], dict[str, Figure]]:
    """How far saliency maps meet the annotated lesions, as sections; and galleries of the images with the
    largest and smallest errors, by caption. Of a model without feature maps a section says so."""
    predictions, dataset, rows = evaluated.predictions, evaluated.dataset, evaluated.rows
    scores = expit(predictions.log_odds)
    for_gallery = Predictions(rows, predictions.labels, predictions.log_odds[:, None], scores, float("nan"))
    try:
        with terminal.progress("maps") as advance:
            metrics = measure_localisation(model, dataset, rows, advance=advance)
        with terminal.waiting("gallery"):
            at_threshold = replace(model, threshold=float(expit(predictions.threshold)))
            galleries = gallery(at_threshold, dataset, for_gallery)
    except NoFeatureMapsError as error:
        return [Section(TITLE, [f"Skipped: {error}."])], {}
    return sections(metrics), galleries


def compare(first: str, second: str, request: EvalRequest) -> dict[str, Any]:
    """The difference in AUROC of two runs on the same images, logged to the second run and returned.
    InputError: both are the same run, or their images or labels differ."""
    terminal = Terminal()
    tracking.connect()
    models = [load_model(first), load_model(second)]
    if models[0].run_id == models[1].run_id:
        raise InputError(f"compare needs two different runs, both are {models[0].run_id}")
    evaluated = [predict_dataset([model], request, terminal, peers=models) for model in models]
    before, after = evaluated[0].predictions, in_order_of(evaluated[0], evaluated[1], request.resolved_split)
    names = query.run_name(models[0].run_id), query.run_name(models[1].run_id)
    with terminal.waiting("resampling"):
        comparison = compare_auroc(before, after)
    cohort = evaluated[0].dataset.cohort.name
    shared = set(evaluated[0].notes).intersection(evaluated[1].notes)
    notes = dict.fromkeys(
        note if note in shared else f"{name}: {note}"
        for name, each in zip(names, evaluated, strict=True)
        for note in each.notes
    )
    title = f"{names[1]} against {names[0]}, {cohort} {request.resolved_split}"
    text = [report.comparison(comparison, names, title, before.patients_known, list(notes))]
    record_test_evaluation(models, [each.n_in_test[0] for each in evaluated])
    pages.print_sections(text, terminal)
    path = f"{evaluated[1].artifact_folder}/against-{models[0].run_id}.md"
    tracking.log_text(models[1].run_id, pages.markdown(text), path)
    terminal.say("written", f"{path} of run {models[1].run_id}")
    return {
        "runs": [model.run_id for model in models],
        "data": cohort,
        "split": request.resolved_split,
        "tta": "+".join(sorted({each.tta for each in evaluated})),
        "n_images": len(before.labels),
        **asdict(comparison),
    }


def in_order_of(first: EvalPredictions, second: EvalPredictions, part: str) -> LogOddsPredictions:
    """The second run's predictions in the order of the first run's images. InputError: the images, what they
    show or their labels differ."""
    rows = pd.Index(second.image_ids).get_indexer(pd.Index(first.image_ids))
    name_data = "name a data set to compare both on: data=... --split all"
    if len(rows) != len(second.image_ids) or (rows < 0).any():
        n_common = int((rows >= 0).sum())
        common = "--split common compares on those in the test split of both, or " if n_common else ""
        raise InputError(
            f"The two runs have other images in {part}: {n_common:,} are in common; {common}{name_data}"
        )
    if differing := int((first.contents != second.contents[rows]).sum()):
        raise InputError(
            f"The two runs have other images in {part}: {differing:,} differ under the same ids; {name_data}"
        )
    predictions = second.predictions.subset(rows)
    if differing := int((first.predictions.labels != predictions.labels).sum()):
        raise InputError(f"The labels of {differing:,} images differ between the two runs")
    return predictions


def ensemble_run(models: Sequence[LoadedModel]) -> str:
    """The id of a new MLflow run for the results of an ensemble."""
    tags = {"members": " ".join(model.run_id for model in models)}
    experiment = models[0].experiment.mlflow_experiment
    names = ", ".join(query.run_name(model.run_id) for model in models)
    about = f"The mean of the log odds of {len(models)} runs, evaluated as one model: {names}."
    return tracking.create_parent_run(experiment, f"ensemble of {len(models)}", tags, about)


def predictions_csv(evaluated: EvalPredictions) -> str:
    table, predictions = evaluated.dataset.cohort.table.iloc[evaluated.rows], evaluated.predictions
    calibrated = predictions.scaling.probabilities(predictions.log_odds)
    scores = {"score": expit(predictions.log_odds), "calibrated": calibrated}
    columns = table[["image_id", "patient_id"]].assign(label=predictions.labels, **scores)
    text: str = columns.to_csv(index=False, float_format="%.9g")
    return text
