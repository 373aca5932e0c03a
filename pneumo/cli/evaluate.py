"""`pneumo evaluate RUN ...` and `pneumo compare RUN RUN`: what runs are worth on any images."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.pages import Section
from pneumo.errors import InputError
from pneumo.evaluation import report
from pneumo.evaluation.results import Evaluation, LogOddsPredictions, compare_auroc
from pneumo.evaluation.subgroups import subgroups
from pneumo.inference.dataset_predictions import EvalPredictions, EvalRequest, predict_dataset
from pneumo.inference.evaluation_count import record_test_evaluation
from pneumo.inference.gallery import gallery
from pneumo.inference.localisation import measure_localisation, sections
from pneumo.inference.model import LoadedModel, load_model
from pneumo.runs import query, tracking
from pneumo.training.predict import Predictions

MAPPED = 300  # lesions: about ten seconds at 128 px with model=tiny on one core


def evaluate(names: Sequence[str], request: EvalRequest) -> None:
    """InputError: something given is wrong, or the images have one class only."""
    terminal = Terminal()
    tracking.connect()
    models = [load_model(name) for name in names]
    evaluated = predict_dataset(models, request, terminal)
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(evaluated.predictions)
        groups = subgroups(evaluated.predictions, evaluated.subgroup_table)
    cohort = evaluated.dataset.cohort.name
    title = f"{called(models)} on {cohort}, {request.resolved_split}"
    text = report.sections(evaluation, groups, title, evaluated.notes)
    where, shown = maps(models[0], evaluated, terminal) if len(models) == 1 else ([], {})
    text += where
    plots = {**dict(report.plots_of(evaluation, groups, title)), **shown}
    pages.print_sections(text, terminal)
    run_id = models[0].run_id if len(models) == 1 else ensemble_run(models)
    place = request.artifact_folder(cohort)
    for caption, figure in plots.items():
        tracking.log_figure(run_id, figure, f"{place}/{caption.lower().replace(' ', '-')}.png")
    tracking.log_text(run_id, pages.markdown(text), f"{place}/evaluation.md")
    tracking.log_text(run_id, pages.html(text, plots), f"{place}/evaluation.html")
    tracking.log_text(run_id, report.as_json(evaluation, groups), f"{place}/evaluation.json")
    tracking.log_text(run_id, predictions_csv(evaluated), f"{place}/predictions.csv")
    tracking.log_run(run_id, evaluation.named(request.metric_prefix(cohort)))
    record_test_evaluation(models, evaluated.n_in_test)
    if len(models) > 1:
        tracking.end_run(run_id, "FINISHED")
    terminal.line(f"written   {place} of run {run_id}, and its metrics {request.metric_prefix(cohort)}/...")


def maps(
    model: LoadedModel, evaluated: EvalPredictions, terminal: Terminal
) -> tuple[list[Section], dict[str, Figure]]:
    """Whether it looks at the lesion, on up to MAPPED of them, and the most wrong and most right images."""
    predictions, dataset, rows = evaluated.predictions, evaluated.dataset, evaluated.rows
    p = expit(predictions.log_odds)
    for_gallery = Predictions(rows, predictions.labels, predictions.log_odds[:, None], p, float("nan"))
    with terminal.waiting("mapping"):
        found = measure_localisation(model, dataset, rows[dataset.store.has_mask[rows]][:MAPPED])
        own = replace(model, threshold=float(expit(predictions.threshold)))
        pictures = gallery(own, dataset, for_gallery)
    return sections(found), pictures


def compare(first: str, second: str, request: EvalRequest) -> None:
    """Two runs on the same images, paired."""
    terminal = Terminal()
    tracking.connect()
    models = [load_model(first), load_model(second)]
    if models[0].run_id == models[1].run_id:
        raise InputError(f"pneumo compare needs two different runs, got {models[0].run_id} twice")
    looks = [predict_dataset([model], request, terminal, peers=models) for model in models]
    before, after = looks[0].predictions, in_order_of(looks[0], looks[1], request.resolved_split)
    names = query.name_of(models[0].run_id), query.name_of(models[1].run_id)
    with terminal.waiting("resampling"):
        found = compare_auroc(before, after)
    cohort = looks[0].dataset.cohort.name
    notes = list(dict.fromkeys([*looks[0].notes, *looks[1].notes]))
    title = f"{names[1]} against {names[0]}, {cohort} {request.resolved_split}"
    text = [report.comparison(found, names, title, notes)]
    pages.print_sections(text, terminal)
    path = f"{request.artifact_folder(cohort)}/against-{models[0].run_id}.md"
    tracking.log_text(models[1].run_id, pages.markdown(text), path)
    record_test_evaluation(models, [look_.n_in_test[0] for look_ in looks])
    terminal.line(f"written   {path} of run {models[1].run_id}")


def in_order_of(first: EvalPredictions, second: EvalPredictions, part: str) -> LogOddsPredictions:
    """The second's answers, image by image as the first's. InputError: they are of other images or labels."""
    rows = pd.Index(second.image_ids).get_indexer(pd.Index(first.image_ids))
    if len(rows) != len(second.image_ids) or (rows < 0).any():
        raise InputError(
            f"The two runs have other images in {part}: {int((rows >= 0).sum()):,} are in common; "
            "split=common compares on those in the test split of both, or name a data set: data=..., "
            "split=all"
        )
    predictions = second.predictions.subset(rows)
    if differing := int((first.predictions.labels != predictions.labels).sum()):
        raise InputError(f"The two runs' labels differ: of {differing:,} images")
    return predictions


def called(models: Sequence[LoadedModel]) -> str:
    names = [query.name_of(model.run_id) for model in models]
    return names[0] if len(names) == 1 else f"ensemble of {', '.join(names)}"


def ensemble_run(models: Sequence[LoadedModel]) -> str:
    members = " ".join(model.run_id for model in models)
    return tracking.parent_run(
        models[0].experiment.mlflow_experiment, f"ensemble of {len(models)}", {"members": members}
    )


def predictions_csv(evaluated: EvalPredictions) -> str:
    table = evaluated.dataset.cohort.table.iloc[evaluated.rows]
    text: str = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "patient_id": table["patient_id"],
            "label": evaluated.predictions.labels,
            "score": expit(evaluated.predictions.log_odds),
            "calibrated": evaluated.predictions.calibrated,
        }
    ).to_csv(index=False, float_format="%.9g")
    return text
