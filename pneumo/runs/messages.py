"""What the terminal says of a run: one idea a line, numbers with their interval."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pneumo.components.models import Classifier
from pneumo.data.dataset import Dataset
from pneumo.data.split import Split
from pneumo.display.format import compact, decimal, decimal_or_dash, duration, interval, scientific
from pneumo.evaluation.metric_names import METRICS
from pneumo.evaluation.metrics import FEW_PATIENTS
from pneumo.runs.diagnosis import SplitResult
from pneumo.runs.experiment import Experiment
from pneumo.training.state import EpochReport, TrainState
from pneumo.training.trainer import Trainer

EPOCH = "{:>6}  {:<8} {:<9} {:<14} {:<9} {}"
EPOCH_HEADING = EPOCH.format("epoch", "loss", "val loss", "val AUROC", "lr", "images/s")


def cohort_line(dataset: Dataset) -> str:
    table = dataset.cohort.table
    known = int(table["patient_id"].nunique())
    of = f"of {known:,} patients" if known else "of unknown patients"
    built = dataset.store.build_seconds
    how = f" (read in {duration(built)}, kept for next time)" if built is not None else ""
    positive = dataset.labels.mean()
    return f"{dataset.cohort.name}: {len(table):,} radiographs {of}, {positive:.1%} positive{how}"


def split_line(split: Split) -> str:
    sizes = " / ".join(f"{len(part):,}" for part in (split.train, split.val, split.test))
    if not split.numbers["split/train_patients"]:
        return f"{sizes}, may leak: {split.leak_risk}; patient memory unknown"
    apart = "no patient in two of them" if split.leak_risk is None else f"may leak: {split.leak_risk}"
    memory = split.patient_memory_auc
    meaning = (
        "nothing leaks" if abs(memory - 0.5) < 0.005 else "patients leak: read every metric with that in mind"
    )
    return f"{sizes}, {apart}; patient memory {decimal(memory, 2)} ({meaning})"


def model_line(experiment: Experiment, network: Classifier, effective_batch: int) -> str:
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    names = experiment.choices
    lr = experiment.optimizer.resolved_lr(effective_batch)
    frozen = f", {experiment.model.freeze} frozen" if experiment.model.freeze != "none" else ""
    return (
        f"{names['model']}, 1 channel, {compact(trainable)} trainable parameters{frozen} · {names['loss']} · "
        f"{names['optimizer']} {scientific(lr)} · {names['schedule']} · augment {names['augment']}"
    )


def device_line(trainer: Trainer) -> str:
    device, settings, processes = trainer.accelerator.device, trainer.settings, trainer.processes.count
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    several = f" x {processes} processes" if processes > 1 else ""
    return (
        f"{name}, {str(trainer.accelerator.dtype).removeprefix('torch.')} · effective batch "
        f"{trainer.effective_batch} = {settings.batch_size} x {settings.accumulation_steps}{several}"
    )


def smaller_batch_message(trainer: Trainer, micro_batch: int) -> str:
    return (
        f"Out of memory with {trainer.settings.batch_size} images at once: {micro_batch} from now on, and "
        f"more accumulation; the effective batch is still {trainer.effective_batch}."
    )


def resumed_line(state: dict[str, Any]) -> str:
    done, before, now = len(state["history"]), state["threads"], torch.get_num_threads()
    threads = f"; then on {before} threads, now on {now}: not bit-equal" if before != now else ""
    windows = state["within"]["windows"] if state["within"] else 0
    further = f" and {windows} steps of the next" if windows else ""
    return f"after epoch {done}{further}{threads}"


def epoch_line(report: EpochReport, epochs: int) -> str:
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


def since_best(train_state: TrainState) -> str:
    waited = len(train_state.history) - train_state.best_epoch
    return f"{waited} epochs after the best, epoch {train_state.best_epoch}"


def stopped_message(train_state: TrainState, run_id: str) -> str:
    if not train_state.history and not train_state.progress:
        return "Stopped before the first epoch was finished: there is nothing to resume."
    return f"Stopped after epoch {len(train_state.history)}. To go on: the same command and resume={run_id}"


def unfinished_message(train_state: TrainState, run_id: str, folder: Path) -> str:
    """Of a run that MLflow could not be told the rest of."""
    if not train_state.history:
        return "MLflow went away before the first epoch was finished: there is nothing to resume."
    return (
        f"MLflow does not have the whole run; all of it is kept in {folder}.\n"
        f"To send it, once MLflow is back: the same command and resume={run_id}"
    )


def result_table(
    scored: SplitResult, part: str, patients_known: bool
) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title of the last table; `patients_known`: or each image counts
    as a patient of its own."""
    labels, patients = scored.predictions.labels, scored.patients
    of = f"{len(np.unique(patients)):,} patients" if patients_known else "unknown patients"
    positive = len(np.unique(patients[labels == 1]))
    title = f"{part}, {len(labels):,} images of {of}, {int(labels.sum()):,} positive"
    if patients_known and positive < FEW_PATIENTS:
        rest = f"only {positive} patients are" if positive > 1 else "a single patient is"
        title += f"\n{rest} positive: these figures rest on that alone"
    rows = [
        [METRICS[key].in_terminal, decimal_or_dash(scored.metrics[key]), interval(ends)]
        for key, ends in scored.intervals.items()
    ]
    return ["", "", f"95% interval ({'patients' if patients_known else 'images'} resampled)"], rows, title


def operating_point(scored: SplitResult) -> str:
    return (
        f"accuracy to F1 at threshold {decimal(scored.threshold, 2)}, the best F1 on validation\n"
        "* of the 0/1 answers, as the report gives it; it says nothing of the ranking"
    )
