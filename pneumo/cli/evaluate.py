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
from pneumo.evaluation.results import Answers, Evaluation, compared
from pneumo.evaluation.subgroups import subgroups
from pneumo.inference.dataset_predictions import Asked, Looked, look
from pneumo.inference.evaluation_count import count_look
from pneumo.inference.gallery import gallery
from pneumo.inference.localisation import localised, sections
from pneumo.inference.model import Trained, trained
from pneumo.runs import query, tracking
from pneumo.training.predict import Predictions

MAPPED = 300  # lesions: about ten seconds at 128 px with model=tiny on one core


def evaluate(names: Sequence[str], asked: Asked) -> None:
    """InputError: something given is wrong, or the images have one class only."""
    terminal = Terminal()
    tracking.connect()
    models = [trained(name) for name in names]
    looked = look(models, asked, terminal)
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(looked.answers)
        groups = subgroups(looked.answers, looked.described)
    cohort = looked.material.cohort.name
    title = f"{called(models)} on {cohort}, {asked.part}"
    text = report.sections(evaluation, groups, title, looked.notes)
    where, shown = maps(models[0], looked, terminal) if len(models) == 1 else ([], {})
    text += where
    figures = {**dict(report.pictures(evaluation, groups, title)), **shown}
    pages.say(text, terminal)
    run_id = models[0].run_id if len(models) == 1 else ensemble_run(models)
    place = asked.place(cohort)
    for caption, figure in figures.items():
        tracking.keep_figure(run_id, figure, f"{place}/{caption.lower().replace(' ', '-')}.png")
    tracking.keep_text(run_id, pages.markdown(text), f"{place}/evaluation.md")
    tracking.keep_text(run_id, pages.page(text, figures), f"{place}/evaluation.html")
    tracking.keep_text(run_id, report.as_json(evaluation, groups), f"{place}/evaluation.json")
    tracking.keep_text(run_id, predictions_csv(looked), f"{place}/predictions.csv")
    tracking.log_run(run_id, evaluation.named(asked.prefix(cohort)))
    count_look(models, looked.of_test)
    if len(models) > 1:
        tracking.end_run(run_id, "FINISHED")
    terminal.line(f"written   {place} of run {run_id}, and its metrics {asked.prefix(cohort)}/...")


def maps(model: Trained, looked: Looked, terminal: Terminal) -> tuple[list[Section], dict[str, Figure]]:
    """Whether it looks at the lesion, on up to MAPPED of them, and the most wrong and most right images."""
    answers, material, rows = looked.answers, looked.material, looked.rows
    p = expit(answers.log_odds)
    predictions = Predictions(rows, answers.labels, answers.log_odds[:, None], p, float("nan"))
    with terminal.waiting("mapping"):
        found = localised(model, material, rows[material.store.has_mask[rows]][:MAPPED])
        own = replace(model, threshold=float(expit(answers.threshold)))
        pictures = gallery(own, material, predictions)
    return sections(found), pictures


def compare(first: str, second: str, asked: Asked) -> None:
    """Two runs on the same images, paired."""
    terminal = Terminal()
    tracking.connect()
    models = [trained(first), trained(second)]
    if models[0].run_id == models[1].run_id:
        raise InputError(f"pneumo compare needs two different runs, got {models[0].run_id} twice")
    looks = [look([model], asked, terminal, peers=models) for model in models]
    before, after = looks[0].answers, in_order_of(looks[0], looks[1], asked.part)
    names = query.name_of(models[0].run_id), query.name_of(models[1].run_id)
    with terminal.waiting("resampling"):
        found = compared(before, after)
    cohort = looks[0].material.cohort.name
    notes = list(dict.fromkeys([*looks[0].notes, *looks[1].notes]))
    title = f"{names[1]} against {names[0]}, {cohort} {asked.part}"
    text = [report.comparison(found, names, title, notes)]
    pages.say(text, terminal)
    path = f"{asked.place(cohort)}/against-{models[0].run_id}.md"
    tracking.keep_text(models[1].run_id, pages.markdown(text), path)
    count_look(models, [look_.of_test[0] for look_ in looks])
    terminal.line(f"written   {path} of run {models[1].run_id}")


def in_order_of(first: Looked, second: Looked, part: str) -> Answers:
    """The second's answers, image by image as the first's. InputError: they are of other images or labels."""
    rows = pd.Index(second.image_ids).get_indexer(pd.Index(first.image_ids))
    if len(rows) != len(second.image_ids) or (rows < 0).any():
        raise InputError(
            f"The two runs have other images in {part}: {int((rows >= 0).sum()):,} are in common; "
            "split=common compares on those in the test split of both, or name a data set: data=..., "
            "split=all"
        )
    answers = second.answers.part(rows)
    if differing := int((first.answers.labels != answers.labels).sum()):
        raise InputError(f"The two runs' labels differ: of {differing:,} images")
    return answers


def called(models: Sequence[Trained]) -> str:
    names = [query.name_of(model.run_id) for model in models]
    return names[0] if len(names) == 1 else f"ensemble of {', '.join(names)}"


def ensemble_run(models: Sequence[Trained]) -> str:
    members = " ".join(model.run_id for model in models)
    return tracking.parent_run(
        models[0].experiment.mlflow_experiment, f"ensemble of {len(models)}", {"members": members}
    )


def predictions_csv(looked: Looked) -> str:
    table = looked.material.cohort.table.iloc[looked.rows]
    text: str = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "patient_id": table["patient_id"],
            "label": looked.answers.labels,
            "score": expit(looked.answers.log_odds),
            "calibrated": looked.answers.calibrated,
        }
    ).to_csv(index=False, float_format="%.9g")
    return text
