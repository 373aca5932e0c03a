"""`pneumo evaluate RUN ...` and `pneumo compare RUN RUN`: what runs are worth on any images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.special import expit

from pneumo import archive, config, pages, tracking
from pneumo.console import Terminal
from pneumo.data.batches import Batches
from pneumo.data.cohort import Cohort, need_columns, read_table
from pneumo.data.material import Material, limited, prepared
from pneumo.data.source import Source
from pneumo.errors import InputError
from pneumo.evidence import evaluated
from pneumo.evidence.calibration import temperature
from pneumo.evidence.evaluation import Answers, Evaluation, compared
from pneumo.evidence.gallery import gallery
from pneumo.evidence.localisation import localised, sections
from pneumo.evidence.subgroups import subgroups
from pneumo.infer import Predictions, views_of
from pneumo.metrics import Array, best_f1_threshold
from pneumo.pages import Section
from pneumo.trained import Trained, trained

SPLITS = ("train", "val", "test", "all")
MAPPED = 300  # lesions: about ten seconds at 128 px with model=tiny on one core
TRUE = ("1", "1.0", "true", "yes")


@dataclass(frozen=True)
class Asked:
    """On which images: `overrides` of data=, none for the run's own; `split` None: test, or all of others."""

    overrides: Sequence[str] = ()
    split: str | None = None
    tta: str = "none"
    hard_negatives: str | None = None  # a column of data.patients_csv

    def __post_init__(self) -> None:
        if self.split not in (None, *SPLITS):
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        views_of(self.tta)

    @property
    def part(self) -> str:
        return self.split or ("all" if self.overrides else "test")


@dataclass(frozen=True)
class Looked:
    """Models' joint answers on the asked images, and where these come from."""

    answers: Answers
    source: Source
    material: Material
    rows: Array
    notes: list[str]


def evaluate(names: Sequence[str], asked: Asked) -> None:
    """InputError: something given is wrong, or the images have one class only."""
    terminal = Terminal()
    tracking.connect()
    models = [trained(name) for name in names]
    looked = look(models, asked, terminal)
    groups_table = described(looked, asked.hard_negatives)
    if len(np.unique(looked.answers.labels)) < 2:
        raise InputError(
            f"All {len(looked.rows):,} images of {asked.part} have one label: there is nothing to rank"
        )
    with terminal.waiting("resampling"):
        evaluation = Evaluation.of(looked.answers)
        groups = subgroups(looked.answers, groups_table)
    cohort = looked.material.cohort.name
    title = f"{called(models)} on {cohort}, {asked.part}"
    text = evaluated.sections(evaluation, groups, title, looked.notes)
    where, gallery = maps(models[0], looked, terminal) if len(models) == 1 else ([], {})
    text += where
    pages.say(text, terminal)
    run_id = models[0].run_id if len(models) == 1 else ensemble_run(models)
    place = f"evaluation/{cohort}-{asked.part}-{asked.tta}"
    figures = {**dict(evaluated.pictures(evaluation, groups, title)), **gallery}
    for caption, figure in figures.items():
        tracking.keep_figure(run_id, figure, f"{place}/{caption.lower().replace(' ', '-')}.png")
    tracking.keep_text(run_id, pages.markdown(text), f"{place}/evaluation.md")
    tracking.keep_text(run_id, pages.page(text, figures), f"{place}/evaluation.html")
    tracking.keep_text(
        run_id, json.dumps(evaluated.as_json(evaluation, groups), indent=1), f"{place}/evaluation.json"
    )
    tracking.keep_text(run_id, predictions_csv(looked), f"{place}/predictions.csv")
    tracking.log_run(run_id, evaluation.named(f"eval/{asked.part}"))
    if len(models) > 1:
        tracking.end_run(run_id, "FINISHED")
    terminal.line(f"written   {place} of run {run_id}, and its metrics eval/{asked.part}/...")


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
    looks = [look([model], asked, terminal) for model in models]
    ids = [look_.material.cohort.table["image_id"].to_numpy()[look_.rows] for look_ in looks]
    if not np.array_equal(ids[0], ids[1]):
        raise InputError(
            f"The two runs have other images in {asked.part}: name the data set, data=..., split=all"
        )
    names = archive.name_of(models[0].run_id), archive.name_of(models[1].run_id)
    with terminal.waiting("resampling"):
        found = compared(looks[0].answers, looks[1].answers)
    cohort = looks[0].material.cohort.name
    pages.say(
        [evaluated.comparison(found, names, f"{names[1]} against {names[0]}, {cohort} {asked.part}")],
        terminal,
    )


def look(models: Sequence[Trained], asked: Asked, terminal: Terminal) -> Looked:
    """Threshold and temperature come from the models' own validation images, under the same views."""
    hashes = {archive.find_run(model.run_id).data.tags.get("split_hash") for model in models}
    if len(hashes) > 1:
        raise InputError("These runs were split differently: they have no validation images in common")
    own_answers, asked_answers = [], []
    for model in models:
        with terminal.progress("data") as advance:
            own = limited(prepared(model.experiment.data, advance), model.experiment.fit.few_images)
            source = source_of(model, asked.overrides) if asked.overrides else model.experiment.data
            other = prepared(source, advance) if asked.overrides else own
        rows = rows_of(other, asked.part)
        with terminal.waiting("looking"):
            own_answers.append(log_odds(model, own, own.split.val, asked.tta))
            asked_answers.append(log_odds(model, other, rows, asked.tta))
    on_val, labels = np.mean(own_answers, axis=0), own.labels[own.split.val]
    answers = Answers(
        other.labels[rows],
        np.mean(asked_answers, axis=0),
        other.patients[rows],
        best_f1_threshold(labels, on_val),
        temperature(on_val, labels),
    )
    notes = [f"Views: {asked.tta}."] if asked.tta != "none" else []
    if asked.overrides:
        notes += overlap(own, other)
    elif asked.part == "test":
        notes.append(looked_at_test(models))
    elif asked.part == "all":
        notes.append("These images include those it was trained on.")
    return Looked(answers, source, other, rows, notes)


def source_of(model: Trained, overrides: Sequence[str]) -> Source:
    """The images asked for, at the size that the model takes."""
    source = config.load(config.composed(overrides)).data
    if (
        any(config.key_of(word) == "data.image_side_px" for word in overrides)
        and source.image_side_px != model.side_px
    ):
        raise InputError(
            f"data.image_side_px={source.image_side_px}, but the run takes {model.side_px}: leave it out"
        )
    return replace(source, image_side_px=model.side_px)


def rows_of(material: Material, part: str) -> Array:
    return np.arange(len(material.labels)) if part == "all" else np.asarray(getattr(material.split, part))


def log_odds(model: Trained, material: Material, rows: Array, tta: str) -> Array:
    """(N,)"""
    batches = Batches(
        material.store, material.labels, model.machine.device, model.experiment.data.num_workers
    )
    p = model.loss.probability(model.logits(batches, rows, views_of(tta)))
    return torch.logit(p, eps=1e-12).numpy()


def overlap(own: Material, other: Material) -> list[str]:
    """What can be said of leaks where the data set is another one."""
    seen = set(own.cohort.table["patient_id"].iloc[own.split.train].dropna())
    again = seen & set(other.cohort.table["patient_id"].dropna())
    if not again:
        return ["None of its patients' ids is among those that were trained on."]
    return [f"{len(again):,} ids of its patients were trained on: a leak, if they mean the same patients."]


def looked_at_test(models: Sequence[Trained]) -> str:
    """Counts, in the runs, how often their test split has been looked at."""
    times = 0
    for model in models:
        tags = archive.find_run(model.run_id).data.tags
        before = int(tags.get("test_evaluations", model.experiment.fit.test))
        times = max(times, before + 1)
        tracking.tag_run(model.run_id, test_evaluations=before + 1)
    rest = "" if times == 1 else ": the more often one chooses by it, the less it says"
    return f"The test split has now been looked at {times} time{'s' if times > 1 else ''}{rest}."


def described(looked: Looked, hard_negatives: str | None) -> pd.DataFrame:
    """What is known of the rows: lesion_share, view, sex, age, hard_negative."""
    material, rows = looked.material, looked.rows
    cohort, store = material.cohort, material.store
    table = cohort.table.iloc[rows][["view", "sex", "age"]].reset_index(drop=True)
    if store.has_mask[rows].any():
        share = np.array(
            [store.lesions[at].mean() / 255 if at >= 0 else np.nan for at in store.mask_of[rows]]
        )
        table["lesion_share"] = share
    else:
        looked.notes.append("No lesion is drawn in these images: nothing can be said by its size.")
    if hard_negatives is not None:
        table["hard_negative"] = hard(looked.source, cohort, rows, hard_negatives)
    return table


def hard(source: Source, cohort: Cohort, rows: Array, column: str) -> Array:
    """(N,) of the column in the table of the patients."""
    if source.patients_csv is None:
        raise InputError(f"hard_negatives={column} needs data.patients_csv, a table with that column")
    given = cohort.root / Path(source.patients_csv).expanduser()
    table = read_table(given)
    need_columns(table, given, ["image_id", column])
    said = table.set_index("image_id")[column].str.lower().isin(TRUE)
    ids = cohort.table["image_id"].iloc[rows]
    return ids.map(said).fillna(False).to_numpy(bool)


def called(models: Sequence[Trained]) -> str:
    names = [archive.name_of(model.run_id) for model in models]
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
            "score": np.round(expit(looked.answers.log_odds), 6),
            "calibrated": np.round(looked.answers.calibrated, 6),
        }
    ).to_csv(index=False)
    return text
