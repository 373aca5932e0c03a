"""The predictions of one or more runs on the images that an evaluation or a comparison asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pneumo.data.batches import Batches
from pneumo.data.cohort import Cohort
from pneumo.data.dataset import Dataset, first_images, load_dataset, load_unsplit
from pneumo.data.sources.base import Source
from pneumo.data.tables import flags, need_columns, of_images
from pneumo.display.console import Terminal
from pneumo.errors import InputError
from pneumo.evaluation.calibration import temperature
from pneumo.evaluation.metrics import Array, best_f1_threshold
from pneumo.evaluation.results import LogOddsPredictions
from pneumo.inference.evaluation_count import n_in_test_split, test_evaluation_notes
from pneumo.inference.model import LoadedModel
from pneumo.inference.own_images import (
    as_trained,
    common_rows,
    refuse_other_data,
    refuse_other_splits,
    validation_rows,
)
from pneumo.runs import config, identity
from pneumo.runs.identity import VAL, DatasetIdentity
from pneumo.runs.restore import experiment_of
from pneumo.training.predict import tta_transforms

SPLITS = ("train", "val", "test", "all", "common")
TRAINED_ON = "These images include those it was trained on."


@dataclass(frozen=True)
class EvalRequest:
    """On which images: `overrides` with data=... name another data set, those with data.KEY=... alone change
    where the run's own lies. `split` None: test, or all of another data set; common: those that were in the
    test split when the run was trained and are so now."""

    overrides: Sequence[str] = ()
    split: str | None = None
    tta: str = "none"
    hard_negatives: str | None = None  # a column of data.patients_csv

    def __post_init__(self) -> None:
        if self.split not in (None, *SPLITS):
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.split == "common" and self.names_other_data:
            raise InputError("--split common is of the run's own data: leave data= out")
        tta_transforms(self.tta)

    @property
    def names_other_data(self) -> bool:
        return any(config.override_key(word) == "data" for word in self.overrides)

    @property
    def part(self) -> str:
        return self.split or ("all" if self.names_other_data else "test")

    def place(self, cohort: str) -> str:
        """Of the files in the run."""
        return f"evaluation/{cohort}-{self.part}-{self.tta}"

    def prefix(self, cohort: str) -> str:
        """Of the run's metrics. eval/test is of its own images alone, seen plainly."""
        plain = not self.names_other_data and self.tta == "none"
        return f"eval/{self.part}" if plain else f"eval/{cohort}-{self.part}-{self.tta}"


@dataclass(frozen=True)
class EvalPredictions:
    """Models' joint answers on the asked images, and where these come from."""

    predictions: LogOddsPredictions
    dataset: Dataset
    rows: Array
    described: pd.DataFrame  # what groups are made of, a row an image
    notes: list[str]
    of_test: list[int]  # how many of the images are in the test split of each model

    @property
    def image_ids(self) -> Array:
        """(N,)"""
        return self.dataset.cohort.table["image_id"].to_numpy()[self.rows]


@dataclass(frozen=True)
class ModelPredictions:
    """One model's log odds of the asked images and of its own validation images: series by image id, with
    their labels."""

    dataset: Dataset
    rows: Array
    of_test: int
    log_odds: pd.Series
    labels: pd.Series
    val_log_odds: pd.Series
    val_labels: pd.Series


def predict_dataset(
    models: Sequence[LoadedModel], request: EvalRequest, terminal: Terminal, peers: Sequence[LoadedModel] = ()
) -> EvalPredictions:
    """Threshold and temperature come from the models' own validation images, under the same views. `peers`
    are looked at on the same images elsewhere. InputError: the data of a model are not what they were when it
    was trained, or the models' images differ."""
    refuse_other_splits(models)
    each = [answered(model, request, [*models, *peers], terminal) for model in models]
    first = each[0]
    other, rows = first.dataset, first.rows
    described, unmasked = described_by(source_of(models[0], request), other, rows, request.hard_negatives)
    on_val = mean_of([one.val_log_odds for one in each], [one.val_labels for one in each])
    labels = first.val_labels.to_numpy()
    predictions = LogOddsPredictions(
        other.labels[rows],
        mean_of([one.log_odds for one in each], [one.labels for one in each]),
        other.patients[rows],
        best_f1_threshold(labels, on_val),
        temperature(on_val, labels),
        other.patients_known,
    )
    notes = [f"Views: {request.tta}."] if request.tta != "none" else []
    if request.names_other_data:
        notes += [f"Data: {' '.join(request.overrides)}.", *overlap(models, other), *of_others(other.cohort)]
    elif request.part == "common":
        notes.append(
            f"The {len(rows):,} images that were in the test split when it was trained and are so now."
        )
    elif request.part in ("train", "all"):
        notes.append("It was trained on these images." if request.part == "train" else TRAINED_ON)
    if models[0].images and len(first.val_labels) < (before := int(models[0].images.among(VAL).sum())):
        notes.append(
            f"Threshold and temperature are of the {len(first.val_labels):,} of its {before:,} validation "
            "images that have not changed."
        )
    of_test = [one.of_test for one in each]
    notes += dict.fromkeys(caution for model in models for caution in model.cautions)
    if any(model.images is None for model in models):
        notes.append(
            "Trained before runs knew their images: that labels and pixels are the same is not known."
        )
    notes += [*test_evaluation_notes(models, of_test, len(rows)), *unmasked]
    return EvalPredictions(predictions, other, rows, described, notes, of_test)


def answered(
    model: LoadedModel, request: EvalRequest, models: Sequence[LoadedModel], terminal: Terminal
) -> ModelPredictions:
    """What one of `models`, all of which are looked at on the same images, answers."""
    with terminal.progress("data") as advance:
        few = model.experiment.fit.few_images
        own = first_images(load_dataset(own_source(model, request), advance), few)
        if all(config.override_key(word) in identity.PLACES for word in request.overrides):
            own = as_trained(model, own)
        asked_of = own
        if request.names_other_data:
            source = source_of(model, request)
            asked_of = (load_unsplit if request.part == "all" else load_dataset)(source, advance)
    if not request.names_other_data and request.part != "common":
        refuse_other_data(model, own)
    rows = common_rows(models, own) if request.part == "common" else rows_of(asked_of, request.part)
    if len(np.unique(asked_of.labels[rows])) < 2:
        raise InputError(
            f"All {len(rows):,} images of {request.part} have one label: there is nothing to rank"
        )
    val = validation_rows(model, own)
    is_own_test = not request.names_other_data and request.part in ("test", "all")
    with terminal.waiting("looking"):
        ids = asked_of.cohort.table["image_id"].to_numpy()[rows]
        val_ids = own.cohort.table["image_id"].to_numpy()[val]
        return ModelPredictions(
            dataset=asked_of,
            rows=rows,
            of_test=n_in_test_split(model, asked_of, rows, is_own_test),
            log_odds=pd.Series(log_odds(model, asked_of, rows, request.tta), ids),
            labels=pd.Series(asked_of.labels[rows], ids),
            val_log_odds=pd.Series(log_odds(model, own, val, request.tta), val_ids),
            val_labels=pd.Series(own.labels[val], val_ids),
        )


def mean_of(each: Sequence[pd.Series], labels: Sequence[pd.Series]) -> Array:
    """(N,) in the order of the first: values of several models, joined by image id. InputError: they are of
    other images, or these have other labels."""
    first = each[0].index
    for one, theirs in zip(each, labels, strict=True):
        if len(one) != len(first) or not one.index.isin(first).all():
            raise InputError(
                f"These runs answer other images: of {len(first):,} and {len(one):,} they have "
                f"{int(one.index.isin(first).sum()):,} in common"
            )
        if differing := int((theirs.reindex(first) != labels[0]).sum()):
            raise InputError(f"The runs' labels of {differing:,} images differ")
    mean: Array = np.mean([one.reindex(first).to_numpy() for one in each], axis=0)
    return mean


def own_source(model: LoadedModel, request: EvalRequest) -> Source:
    """Of its own images; data.root=..., say, where these have moved."""
    if request.names_other_data or not request.overrides:
        return model.experiment.data
    changes = {config.override_key(word): config.override_value(word) for word in request.overrides}
    source = experiment_of(model.run_id, changes).data
    refuse_other_side(model, source)
    return source


def source_of(model: LoadedModel, request: EvalRequest) -> Source:
    """Of the images asked for, at the size that the model takes."""
    if not request.names_other_data:
        return own_source(model, request)
    source = config.load(config.compose_train(request.overrides)).data
    if any(config.override_key(word) == "data.image_side_px" for word in request.overrides):
        refuse_other_side(model, source)
    return replace(source, image_side_px=model.side_px)


def refuse_other_side(model: LoadedModel, source: Source) -> None:
    if source.image_side_px != model.side_px:
        raise InputError(
            f"data.image_side_px={source.image_side_px}, but the run takes {model.side_px}: leave it out"
        )


def rows_of(dataset: Dataset, part: str) -> Array:
    return np.arange(len(dataset.labels)) if part == "all" else np.asarray(getattr(dataset.split, part))


def log_odds(model: LoadedModel, dataset: Dataset, rows: Array, tta: str) -> Array:
    """(N,)"""
    batches = Batches(
        dataset.store, dataset.labels, model.accelerator.device, model.experiment.data.num_workers
    )
    p = model.loss.probability(model.logits(batches, rows, tta_transforms(tta)))
    return torch.logit(p, eps=1e-12).numpy()


def overlap(models: Sequence[LoadedModel], other: Dataset) -> list[str]:
    """What can be said of leaks where the data set is another one."""
    now = DatasetIdentity.of(other)
    seen = [model.seen for model in models if model.seen]
    if len(seen) < len(models):
        return ["Which images it was trained on is not known: neither is whether these are among them."]
    if images := int(np.any([one.among(now) for one in seen], axis=0).sum()):
        return [f"{images:,} of its images were trained on, by their id or their content: a leak."]
    patients = set(now.patient[now.patient != 0])
    if not patients or not any(len(one.patient) for one in seen):
        return ["Patients are not known in both: whether some were trained on cannot be told."]
    if again := len(patients.intersection(np.concatenate([one.patient for one in seen]))):
        return [f"{again:,} ids of its patients were trained on: a leak, if they mean the same patients."]
    return ["None of its images, and none of its patients' ids, is among those that were trained on."]


def of_others(cohort: Cohort) -> list[str]:
    skipped = len(cohort.skipped)
    return [*cohort.notes, *([f"{skipped:,} rows cannot be used and are left out."] if skipped else [])]


def described_by(
    source: Source, dataset: Dataset, rows: Array, hard_negatives: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """What is known of the rows: lesion_share, view, sex, age, hard_negative; and what to say of it."""
    cohort, store = dataset.cohort, dataset.store
    table = cohort.table.iloc[rows][["view", "sex", "age"]].reset_index(drop=True)
    if hard_negatives is not None:
        table["hard_negative"] = hard(source, cohort, rows, hard_negatives)
    if not store.has_mask[rows].any():
        return table, ["No lesion is drawn in these images: nothing can be said by its size."]
    table["lesion_share"] = [
        store.lesions[at].mean() / 255 if at >= 0 else np.nan for at in store.mask_of[rows]
    ]
    undrawn = int((dataset.labels[rows] == 1).sum() - store.has_mask[rows].sum())
    notes = [f"{undrawn:,} positives have no lesion drawn and are in no group of size."] if undrawn else []
    return table, notes


def hard(source: Source, cohort: Cohort, rows: Array, column: str) -> Array:
    """(N,) of the column in the table of the patients."""
    if source.patients_csv is None:
        raise InputError(f"--hard-negatives {column} needs data.patients_csv, a table with that column")
    path = cohort.root / Path(source.patients_csv).expanduser()
    table = of_images(path)
    need_columns(table, path, [column])
    return cohort.table["image_id"].iloc[rows].isin(table.index[flags(table[column])]).to_numpy()
