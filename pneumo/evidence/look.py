"""What is asked, and what models answer on those images: the same for an evaluation and a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pneumo import archive, config, tracking
from pneumo.console import Terminal
from pneumo.data.batches import Batches
from pneumo.data.cohort import Cohort, flags, need_columns, of_images
from pneumo.data.material import Material, limited, prepared, undivided
from pneumo.data.source import Source
from pneumo.errors import InputError
from pneumo.evidence.calibration import temperature
from pneumo.evidence.evaluation import Answers
from pneumo.infer import views_of
from pneumo.metrics import Array, best_f1_threshold
from pneumo.trained import Trained

SPLITS = ("train", "val", "test", "all")
TRAINED_ON = "These images include those it was trained on."


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

    def place(self, cohort: str) -> str:
        """Of the files in the run."""
        return f"evaluation/{cohort}-{self.part}-{self.tta}"

    def prefix(self, cohort: str) -> str:
        """Of the run's metrics. eval/test is of its own images alone, seen plainly."""
        plain = not self.overrides and self.tta == "none"
        return f"eval/{self.part}" if plain else f"eval/{cohort}-{self.part}-{self.tta}"


@dataclass(frozen=True)
class Looked:
    """Models' joint answers on the asked images, and where these come from."""

    answers: Answers
    material: Material
    rows: Array
    described: pd.DataFrame  # what groups are made of, a row an image
    notes: list[str]


def look(models: Sequence[Trained], asked: Asked, terminal: Terminal) -> Looked:
    """Threshold and temperature come from the models' own validation images, under the same views."""
    hashes = {archive.find_run(model.run_id).data.tags.get("split_hash") for model in models}
    if len(hashes) > 1:
        raise InputError("These runs were split differently: they have no validation images in common")
    own_answers, asked_answers = [], []
    for model in models:
        with terminal.progress("data") as advance:
            own = limited(prepared(model.experiment.data, advance), model.experiment.fit.few_images)
            source, other = model.experiment.data, own
            if asked.overrides:
                source = source_of(model, asked.overrides)
                other = (undivided if asked.part == "all" else prepared)(source, advance)
        rows = rows_of(other, asked.part)
        if len(np.unique(other.labels[rows])) < 2:
            raise InputError(
                f"All {len(rows):,} images of {asked.part} have one label: there is nothing to rank"
            )
        described, unmasked = described_by(source, other, rows, asked.hard_negatives)
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
        other.patients_known,
    )
    notes = [f"Views: {asked.tta}."] if asked.tta != "none" else []
    if asked.overrides:
        notes += [f"Data: {' '.join(asked.overrides)}.", *overlap(own, other), *of_others(other.cohort)]
    elif asked.part == "test":
        notes.append(looked_at_test(models))
    elif asked.part in ("train", "all"):
        notes.append("It was trained on these images." if asked.part == "train" else TRAINED_ON)
    return Looked(answers, other, rows, described, [*notes, *unmasked])


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
    ours, theirs = own.cohort.table.iloc[own.split.train], other.cohort.table
    if images := len(set(ours["image_id"]) & set(theirs["image_id"])):
        return [f"{images:,} ids of its images were trained on: a leak, if they mean the same images."]
    if not (own.patients_known and other.patients_known):
        return ["Patients are not known in both: whether some were trained on cannot be told."]
    if again := len(set(ours["patient_id"].dropna()) & set(theirs["patient_id"].dropna())):
        return [f"{again:,} ids of its patients were trained on: a leak, if they mean the same patients."]
    return ["None of its patients' ids is among those that were trained on."]


def of_others(cohort: Cohort) -> list[str]:
    skipped = len(cohort.skipped)
    return [*cohort.notes, *([f"{skipped:,} rows cannot be used and are left out."] if skipped else [])]


def looks_at_test(model: Trained) -> int:
    """How often its test split has been looked at: by its training, too."""
    tags = archive.find_run(model.run_id).data.tags
    return int(tags.get("test_evaluations", model.experiment.fit.test))


def looked_at_test(models: Sequence[Trained]) -> str:
    times = 1 + max(map(looks_at_test, models))
    rest = "" if times == 1 else ": the more often one chooses by it, the less it says"
    return f"The test split has now been looked at {times} time{'s' if times > 1 else ''}{rest}."


def count_look(models: Sequence[Trained], asked: Asked) -> None:
    """In the runs, when all of it is written."""
    if not asked.overrides and asked.part in ("test", "all"):
        for model in models:
            tracking.tag_run(model.run_id, test_evaluations=looks_at_test(model) + 1)


def described_by(
    source: Source, material: Material, rows: Array, hard_negatives: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """What is known of the rows: lesion_share, view, sex, age, hard_negative; and what to say of it."""
    cohort, store = material.cohort, material.store
    table = cohort.table.iloc[rows][["view", "sex", "age"]].reset_index(drop=True)
    if hard_negatives is not None:
        table["hard_negative"] = hard(source, cohort, rows, hard_negatives)
    if not store.has_mask[rows].any():
        return table, ["No lesion is drawn in these images: nothing can be said by its size."]
    table["lesion_share"] = [
        store.lesions[at].mean() / 255 if at >= 0 else np.nan for at in store.mask_of[rows]
    ]
    undrawn = int((material.labels[rows] == 1).sum() - store.has_mask[rows].sum())
    notes = [f"{undrawn:,} positives have no lesion drawn and are in no group of size."] if undrawn else []
    return table, notes


def hard(source: Source, cohort: Cohort, rows: Array, column: str) -> Array:
    """(N,) of the column in the table of the patients."""
    if source.patients_csv is None:
        raise InputError(f"hard_negatives={column} needs data.patients_csv, a table with that column")
    path = cohort.root / Path(source.patients_csv).expanduser()
    table = of_images(path)
    need_columns(table, path, [column])
    return cohort.table["image_id"].iloc[rows].isin(table.index[flags(table[column])]).to_numpy()
