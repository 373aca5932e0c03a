"""Predictions of one or more trained models on a split of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from pneumo.data.batches import Batches
from pneumo.data.cohort import Cohort
from pneumo.data.dataset import Dataset, first_images, load_dataset, load_unsplit
from pneumo.data.sources.base import Source
from pneumo.data.tables import flags, need_columns, of_images
from pneumo.display.console import Terminal
from pneumo.errors import InputError
from pneumo.evaluation.calibration import platt_scaling
from pneumo.evaluation.metrics import Array, best_f1_threshold, log_odds
from pneumo.evaluation.results import LogOddsPredictions
from pneumo.inference.evaluation_count import count_in_test_split, test_split_notes
from pneumo.inference.model import LoadedModel
from pneumo.inference.trained_data import (
    check_same_data,
    check_same_split,
    common_rows,
    leak_notes,
    validation_rows,
    with_trained_split,
)
from pneumo.runs import config, identity
from pneumo.runs.identity import VAL, DatasetIdentity
from pneumo.runs.overrides import override_key, override_value
from pneumo.runs.restore import experiment_of
from pneumo.training.predict import tta_transforms

SPLITS = ("train", "val", "test", "all", "common")
OWN_SPLIT_NOTES = {
    "train": "It was trained on these images.",
    "val": "Its epoch, threshold and Platt scaling were chosen on these images, which flatters it.",
    "all": "These images include those it was trained on.",
}


@dataclass(frozen=True)
class EvalRequest:
    """Which images to evaluate. `overrides`: data=... names another data set, data.KEY=... alone changes
    where the run's own data lie. `split`: None is test, or all of another data set; common are the images
    that were in the test split when the run was trained and still are. `tta`: test-time augmentation; None is
    that of each run."""

    overrides: Sequence[str] = ()
    split: str | None = None
    tta: str | None = None
    hard_negatives: str | None = None  # a column of data.patients_csv

    def __post_init__(self) -> None:
        if self.split not in (None, *SPLITS):
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.split == "common" and self.names_other_data:
            raise InputError("--split common is of the run's own data: leave data= out")
        if self.tta is not None:
            tta_transforms(self.tta)

    @property
    def names_other_data(self) -> bool:
        return any(override_key(word) == "data" for word in self.overrides)

    @property
    def resolved_split(self) -> str:
        return self.split or ("all" if self.names_other_data else "test")

    def tta_of(self, model: LoadedModel) -> str:
        return self.tta or model.experiment.tta


@dataclass(frozen=True)
class EvalPredictions:
    """The mean predictions of the models on the requested images, with the data set and rows they are of."""

    predictions: LogOddsPredictions
    dataset: Dataset
    rows: Array
    subgroup_table: pd.DataFrame  # columns for evaluation.subgroups, a row an image
    notes: list[str]
    n_in_test: list[int]  # how many of the images are in the test split of each model
    data: str  # the name of the data set; beside it, of another than the models' own, its identity
    split: str
    tta: str  # such as hflip; hflip+none where the models differ
    is_own: bool  # the models' own images and tta

    @property
    def image_ids(self) -> Array:
        """(N,)"""
        return self.dataset.cohort.table["image_id"].to_numpy()[self.rows]

    @property
    def artifact_folder(self) -> str:
        """The folder of the evaluation's files in the MLflow run."""
        return f"evaluation/{self.data}-{self.split}-{self.tta}"

    @property
    def metric_prefix(self) -> str:
        """The prefix of the MLflow run's metrics: eval/test is of the run's own test images and tta."""
        return f"eval/{self.split}" if self.is_own else f"eval/{self.data}-{self.split}-{self.tta}"

    @property
    def contents(self) -> Array:
        """(N,) hashes of what the images were made from."""
        return np.asarray(self.dataset.store.digests[self.rows, 0])


@dataclass(frozen=True)
class ModelPredictions:
    """One model's log odds for the requested images and its own validation images, with their labels: series
    by image id."""

    dataset: Dataset
    rows: Array
    n_in_test: int
    log_odds: pd.Series
    labels: pd.Series
    val_log_odds: pd.Series
    val_labels: pd.Series


def predict_dataset(
    models: Sequence[LoadedModel], request: EvalRequest, terminal: Terminal, peers: Sequence[LoadedModel] = ()
) -> EvalPredictions:
    """The mean predictions of the models. Threshold and Platt scaling are chosen on their own validation
    images, with the same tta. `peers` are models that are compared on the same images. InputError: the data
    of a model have changed since it was trained, or the models' images differ."""
    check_same_split(models)
    each = [predict_one(model, request, [*models, *peers], terminal) for model in models]
    first = each[0]
    other, rows = first.dataset, first.rows
    subgroup_table, lesion_notes = subgroup_columns(
        requested_source(models[0], request), other, rows, request.hard_negatives
    )
    on_val = mean_by_image([one.val_log_odds for one in each], [one.val_labels for one in each])
    labels = first.val_labels.to_numpy()
    predictions = LogOddsPredictions(
        other.labels[rows],
        mean_by_image([one.log_odds for one in each], [one.labels for one in each]),
        other.patients[rows],
        float(log_odds(best_f1_threshold(labels, expit(on_val)))),  # as training chooses it
        platt_scaling(on_val, labels),
        other.patients_known,
    )
    tta = "+".join(sorted({request.tta_of(model) for model in models}))
    is_own_tta = all(request.tta_of(model) == model.experiment.tta for model in models)
    notes = [] if is_own_tta and tta == "none" else [f"Test-time augmentation: {tta}."]
    if request.names_other_data:
        notes += [
            f"Data: {' '.join(request.overrides)}.",
            *leak_notes(models, other),
            *cohort_notes(other.cohort),
        ]
    elif request.resolved_split == "common":
        notes.append(
            f"The {len(rows):,} images that were in the test split when it was trained and are so now."
        )
    elif note := OWN_SPLIT_NOTES.get(request.resolved_split):
        notes.append(note)
    if models[0].images and len(first.val_labels) < (before := int(models[0].images.among(VAL).sum())):
        notes.append(
            f"Threshold and Platt scaling are of the {len(first.val_labels):,} of its {before:,} validation "
            "images that have not changed."
        )
    n_in_test = [one.n_in_test for one in each]
    notes += dict.fromkeys(caution for model in models for caution in model.cautions)
    if any(model.images is None for model in models):
        notes.append(
            "Trained before runs knew their images: that labels and pixels are the same is not known."
        )
    notes += [*test_split_notes(models, n_in_test, len(rows)), *lesion_notes]
    name = other.cohort.name
    if request.names_other_data:
        name += f"-{DatasetIdentity.of(other).data_identity[:10]}"
    return EvalPredictions(
        predictions,
        other,
        rows,
        subgroup_table,
        notes,
        n_in_test,
        data=name,
        split=request.resolved_split,
        tta=tta,
        is_own=not request.names_other_data and is_own_tta,
    )


def predict_one(
    model: LoadedModel, request: EvalRequest, models: Sequence[LoadedModel], terminal: Terminal
) -> ModelPredictions:
    """The predictions of one of `models`, all of which are evaluated on the same images."""
    with terminal.progress("data") as advance:
        few = model.experiment.fit.few_images
        own = first_images(load_dataset(trained_source(model, request), advance), few)
        if all(override_key(word) in identity.PLACES for word in request.overrides):
            own = with_trained_split(model, own)
        requested = own
        if request.names_other_data:
            source = requested_source(model, request)
            requested = (load_unsplit if request.resolved_split == "all" else load_dataset)(source, advance)
    if not request.names_other_data and request.resolved_split != "common":
        check_same_data(model, own)
    rows = (
        common_rows(models, own)
        if request.resolved_split == "common"
        else rows_of(requested, request.resolved_split)
    )
    if not len(rows):
        raise InputError(f"There is no image in {request.resolved_split} to evaluate")
    if len(np.unique(requested.labels[rows])) < 2:
        raise InputError(
            f"All {len(rows):,} images of {request.resolved_split} have one label: there is nothing to rank"
        )
    val, tta = validation_rows(model, own), request.tta_of(model)
    is_own_test = not request.names_other_data and request.resolved_split in ("test", "all")
    with terminal.waiting("predicting"):
        ids = requested.cohort.table["image_id"].to_numpy()[rows]
        val_ids = own.cohort.table["image_id"].to_numpy()[val]
        return ModelPredictions(
            dataset=requested,
            rows=rows,
            n_in_test=count_in_test_split(model, requested, rows, is_own_test),
            log_odds=pd.Series(predict_log_odds(model, requested, rows, tta), ids),
            labels=pd.Series(requested.labels[rows], ids),
            val_log_odds=pd.Series(predict_log_odds(model, own, val, tta), val_ids),
            val_labels=pd.Series(own.labels[val], val_ids),
        )


def mean_by_image(each: Sequence[pd.Series], labels: Sequence[pd.Series]) -> Array:
    """(N,) means of several models' values, joined by image id, in the first model's order. InputError: the
    models' images or labels differ."""
    first = each[0].index
    for one, theirs in zip(each, labels, strict=True):
        if len(one) != len(first) or not one.index.isin(first).all():
            raise InputError(
                f"These runs predict different images: of {len(first):,} and {len(one):,} they have "
                f"{int(one.index.isin(first).sum()):,} in common"
            )
        if differing := int((theirs.reindex(first) != labels[0]).sum()):
            raise InputError(f"The runs' labels of {differing:,} images differ")
    mean: Array = np.mean([one.reindex(first).to_numpy() for one in each], axis=0)
    return mean


def trained_source(model: LoadedModel, request: EvalRequest) -> Source:
    """The source of the model's own images, with overrides such as data.root=... where these have moved."""
    if request.names_other_data or not request.overrides:
        return model.experiment.data
    changes = {override_key(word): override_value(word) for word in request.overrides}
    source = experiment_of(model.run_id, changes).data
    check_same_side(model, source)
    return source


def requested_source(model: LoadedModel, request: EvalRequest) -> Source:
    """The data source of the requested images, at the model's image size."""
    if not request.names_other_data:
        return trained_source(model, request)
    source = config.load(config.compose_train(request.overrides)).data
    if any(override_key(word) == "data.image_side_px" for word in request.overrides):
        check_same_side(model, source)
    return replace(source, image_side_px=model.side_px)


def check_same_side(model: LoadedModel, source: Source) -> None:
    if source.image_side_px != model.side_px:
        raise InputError(
            f"data.image_side_px={source.image_side_px}, but the run takes {model.side_px}: leave it out"
        )


def rows_of(dataset: Dataset, split: str) -> Array:
    return np.arange(len(dataset.labels)) if split == "all" else np.asarray(getattr(dataset.split, split))


def predict_log_odds(model: LoadedModel, dataset: Dataset, rows: Array, tta: str) -> Array:
    """(N,) log odds of pneumothorax of these rows."""
    batches = Batches(
        dataset.store, dataset.labels, model.accelerator.device, model.experiment.data.num_workers
    )
    return log_odds(model.scores_of_rows(batches, rows, tta_transforms(tta)))


def cohort_notes(cohort: Cohort) -> list[str]:
    skipped = len(cohort.skipped)
    return [*cohort.notes, *([f"{skipped:,} rows cannot be used and are left out."] if skipped else [])]


def subgroup_columns(
    source: Source, dataset: Dataset, rows: Array, hard_negatives: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """View, sex, age and, where known, style, hard_negative and lesion_share, a row an image; and notes."""
    cohort, store = dataset.cohort, dataset.store
    known = [name for name in ("view", "sex", "age", "style") if name in cohort.table]
    table = cohort.table.iloc[rows][known].reset_index(drop=True)
    if hard_negatives is not None:
        table["hard_negative"] = hard_negative_flags(source, cohort, rows, hard_negatives)
    if not store.has_mask[rows].any():
        return table, ["No lesion is annotated in these images: there are no subgroups by lesion size."]
    table["lesion_share"] = [
        store.lesions[at].mean() / 255 if at >= 0 else np.nan for at in store.mask_of[rows]
    ]
    n_unannotated = int((dataset.labels[rows] == 1).sum() - store.has_mask[rows].sum())
    notes = (
        [f"{n_unannotated:,} positives have no annotated lesion and are in no subgroup of lesion size."]
        if n_unannotated
        else []
    )
    return table, notes


def hard_negative_flags(source: Source, cohort: Cohort, rows: Array, column: str) -> Array:
    """(N,) bool of a column in the table of the patients."""
    if source.patients_csv is None:
        raise InputError(f"--hard-negatives {column} needs data.patients_csv, a table with that column")
    path = cohort.root / Path(source.patients_csv).expanduser()
    table = of_images(path)
    need_columns(table, path, [column])
    return cohort.table["image_id"].iloc[rows].isin(table.index[flags(table[column])]).to_numpy()
