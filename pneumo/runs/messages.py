"""The lines that a run prints to the terminal."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pneumo.components.models import Classifier
from pneumo.data.dataset import Dataset
from pneumo.data.split import Split
from pneumo.display.format import (
    compact,
    counted,
    decimal,
    decimal_or_dash,
    duration,
    interval,
    probability,
    scientific,
)
from pneumo.evaluation.metric_names import METRICS
from pneumo.evaluation.metrics import FEW_PATIENTS, FEWEST_PATIENTS, fewest_patients
from pneumo.runs.experiment import Experiment
from pneumo.runs.overrides import written
from pneumo.runs.rescue import safer_setting, second_attempt
from pneumo.runs.results import SplitResult
from pneumo.training.plateau import Plateau
from pneumo.training.state import EpochReport, TrainState
from pneumo.training.trainer import Trainer

EPOCH = "{:>6}  {:<8} {:<9} {:<14} {:<9} {}"
EPOCH_HEADING = EPOCH.format("epoch", "loss", "val loss", "val AUROC", "lr", "images/s")


def cohort_line(dataset: Dataset) -> str:
    """How many radiographs and patients there are, and how long reading the images took."""
    table, seconds = dataset.cohort.table, dataset.store.build_seconds
    n_patients = table["patient_id"].nunique()
    read = f" (read in {duration(seconds)}, kept for next time)" if seconds is not None else ""
    patients = f"{n_patients:,} patients" if n_patients else "unknown patients"
    size = f"{len(table):,} radiographs of {patients}"
    return f"{dataset.cohort.name}: {size}, {dataset.labels.mean():.1%} positive{read}"


def split_line(split: Split) -> str:
    """The sizes of train, val and test, and whether patients may leak between them."""
    sizes = " / ".join(f"{len(rows):,}" for rows in (split.train, split.val, split.test))
    if not split.numbers["split/train_patients"]:
        return f"{sizes}, may leak: {split.leak_risk}; patient memory unknown"
    leak = f"may leak: {split.leak_risk}" if split.leak_risk else "no patient in two of them"
    memory = split.patient_memory_auc
    if np.isnan(memory):
        return f"{sizes}, {leak}"
    if memory >= 0.505:
        meaning = " (patients leak, which raises every metric)"
    else:
        meaning = "" if split.leak_risk else " (nothing leaks)"
    return f"{sizes}, {leak}; patient memory {decimal(memory, 2)}{meaning}"


def model_line(
    experiment: Experiment, network: Classifier, effective_batch: int, is_second: bool = False
) -> str:
    """The network and how it is trained, by the names chosen in the configuration, and what a plan or a
    second attempt changes."""
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    names, augment = experiment.choices, experiment.choices["augment"]
    attempt = second_attempt(experiment) if is_second else experiment
    lr = attempt.optimizer.resolved_lr(effective_batch)
    frozen = f", {experiment.model.freeze} frozen" if experiment.model.freeze != "none" else ""
    if is_second:
        augment += f" · second attempt with {safer_words(experiment)}"
    elif "\naugment:" in experiment.plan:
        augment += " and the plan's distortions"
    return (
        f"{names['model']}, 1 channel, {compact(trainable)} trainable parameters{frozen} · {names['loss']} · "
        f"{names['optimizer']} {scientific(lr)} · {names['schedule']} · augment {augment}"
    )


def without_mask_head(pretrained: str) -> str:
    """That a part of the pretrained weights has no place in the model."""
    return (
        f"the mask head of model.pretrained={pretrained} is left out: the first predictions are those of its "
        "other head alone"
    )


def device_line(trainer: Trainer) -> str:
    """The device, its precision and the batch."""
    name, settings, processes = trainer.accelerator.name, trainer.settings, trainer.processes.count
    several = f" x {processes} processes" if processes > 1 else ""
    return (
        f"{name}, {str(trainer.accelerator.dtype).removeprefix('torch.')} · effective batch "
        f"{trainer.effective_batch} = {settings.batch_size} x {settings.accumulation_steps}{several}"
    )


def fewer_threads_message(threads: int, most: int) -> str:
    """That a training leaves cores to other processes, and what it costs."""
    return (
        f"Other processes use this machine: the training has {threads} of {most} threads, and more when cores"
        f" are free. With OMP_NUM_THREADS={threads} the same seed gives equal digits."
    )


def smaller_batch_message(trainer: Trainer, micro_batch: int) -> str:
    """That a batch is computed in smaller steps of `micro_batch` images."""
    return (
        f"{trainer.settings.batch_size} images at once do not fit into memory. From now on it is "
        f"{micro_batch} and more accumulation; the effective batch is still {trainer.effective_batch}."
    )


def resumed_line(state: dict[str, Any]) -> str:
    """How far the checkpoint of this state was trained."""
    epochs, before, now = len(state["history"]), state["threads"], torch.get_num_threads()
    windows = state["within"]["windows"] if state["within"] else 0
    steps = f" and {windows} steps of the next" if windows else ""
    attempt = " of the second attempt" if state.get("abandoned") else ""
    threads = f"; on {now} threads instead of {before}, so not bit-equal" if before != now else ""
    return f"after epoch {epochs}{steps}{attempt}{threads}"


def epoch_line(report: EpochReport, epochs: int) -> str:
    """A row under EPOCH_HEADING."""
    metrics = report.metrics
    auroc = decimal(metrics["val/auroc"]) + (" best" if report.is_best else "")
    return EPOCH.format(
        f"{report.epoch}/{epochs}",
        decimal(metrics["train/loss"]),
        decimal(metrics["val/loss"]),
        auroc,
        scientific(metrics["lr"]),
        f"{metrics['images_per_second']:,.0f}",
    )


def plateau_message(plateau: Plateau, reason: str) -> str:
    """That a training is on a plateau, and the likely reason."""
    return (
        f"NOT LEARNING: for {plateau.n_epochs} epochs the training loss, {plateau.train_loss:.3f}, has not "
        f"fallen 5% below that of one answer for all images, {plateau.constant_loss:.3f}, and val AUROC, "
        f"{decimal(plateau.val_auroc)}, cannot be told from .5. Likely: {reason}"
    )


def second_attempt_message(experiment: Experiment) -> str:
    """That the training begins again, and with which setting."""
    pretrained = experiment.model.pretrained
    weights = "new weights" if pretrained is None else f"the weights of model.pretrained={pretrained}"
    return f"It begins again with {safer_words(experiment)} and {weights}; fit.rescue=false prevents that."


def safer_words(experiment: Experiment) -> str:
    """The settings of a second attempt as overrides."""
    return " ".join(f"{name}={written(value)}" for name, value in safer_setting(experiment).items())


def stopped_message(train_state: TrainState, run_id: str) -> str:
    """How to resume a run that was interrupted."""
    if not train_state.all_epochs and not train_state.progress:
        return "Stopped before the first epoch ended: there is nothing to resume."
    return (
        f"Stopped after epoch {len(train_state.history)}. To continue: the same command and resume={run_id}"
    )


def lost_run(run_id: str) -> str:
    """Of a checkpoint whose run is not in MLflow."""
    return (
        f"MLflow does not have the run {run_id} of this checkpoint: it is logged as a new one, from epoch 1"
    )


def unfinished_message(train_state: TrainState, source: str | Path, folder: Path) -> str:
    """How to send a run that MLflow, which is away or has lost it, has only in part. `source` is what resumes
    it, its id or its last checkpoint."""
    if not train_state.all_epochs:
        return "MLflow went away before the first epoch ended: there is nothing to resume."
    return (
        f"MLflow has only a part of the run; all of it is in {folder}.\n"
        f"To send it once MLflow is back: the same command and resume={source}"
    )


def result_table(
    result: SplitResult, split: str, patients_known: bool
) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title of a table. Unless `patients_known`, each image counts as a patient."""
    labels, patients = result.predictions.labels, result.patients
    known = f"{len(np.unique(patients)):,}" if patients_known else "unknown"
    fewest, rarest = fewest_patients(labels, patients)
    of = counted(fewest, f"{rarest} {'patient' if patients_known else 'image'}")
    title = f"{split}, {len(labels):,} images of {known} patients, {int(labels.sum()):,} positive"
    if fewest < FEWEST_PATIENTS:
        title += f"\nonly {of}: too few for an interval"
    elif fewest < FEW_PATIENTS:
        title += f"\nonly {of}: these metrics are uncertain"
    rows = [
        [METRICS[key].in_terminal, decimal_or_dash(result.metrics[key]), interval(ends)]
        for key, ends in result.intervals.items()
    ]
    resampled = f"95% interval ({'patients' if patients_known else 'images'} resampled)"
    return ["", "", resampled if fewest >= FEWEST_PATIENTS else ""], rows, title


def operating_point(result: SplitResult) -> str:
    """The notes under the table of metrics."""
    return (
        f"accuracy to F1 at threshold {probability(result.threshold, 2)}, the best F1 on validation\n"
        "* of the 0/1 predictions, as in the 2024 report; it does not measure the ranking"
    )
