"""An experiment -> its score: data, model, training, verdict, each said and logged."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pneumo.components.models import Classifier
from pneumo.data.batches import Batches
from pneumo.data.dataset import Dataset, first_images, load_dataset
from pneumo.data.normalise import normaliser
from pneumo.display.console import Terminal
from pneumo.display.format import duration
from pneumo.errors import InputError, PrunedError
from pneumo.evaluation.metrics import best_f1_threshold
from pneumo.runs import checkpoint, diagnosis, messages, plots, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.checkpoint import BEST, CheckpointWriter
from pneumo.runs.diagnosis import SplitResult
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import Images
from pneumo.runs.offline import UNSENT, OfflineQueue
from pneumo.runs.profiler import profiled
from pneumo.runs.resume import RUN_ID, config_hash, interrupted, resumed
from pneumo.runs.tracking import MlflowError, Tracker
from pneumo.runs.warm_start import warm_start
from pneumo.training.device import Accelerator, set_deterministic
from pneumo.training.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from pneumo.training.ema import ModelEma
from pneumo.training.feature_cache import with_cached_features
from pneumo.training.predict import tta_transforms
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

SCORE_FORMAT = 2  # of scores and thresholds; 1: label smoothing was not undone in P(pneumothorax)


def run(experiment: Experiment, output_dir: Path, callback: RunCallback | None = None) -> dict[str, float]:
    """Trains, evaluates and logs; returns the findings, nothing in torchrun's processes after the first.
    InputError: something given is wrong, told before anything is trained. PrunedError: `watch` stopped it."""
    tta_transforms(experiment.tta)
    accelerator = Accelerator.chosen(experiment.fit.device, experiment.fit.precision)
    set_deterministic(experiment.fit.deterministic)
    with process_group(accelerator.device) as processes:
        if processes.is_first:
            return lead(experiment, accelerator, processes, output_dir, callback or RunCallback())
        follow(experiment, accelerator, processes)
        return {}


def follow(experiment: Experiment, accelerator: Accelerator, processes: ProcessGroup) -> None:
    """Its share of what the first process leads."""
    state = processes.broadcast_object(None)
    dataset = first_images(load_dataset(experiment.data, lambda done, total: None), experiment.fit.few_images)
    trainer = assembled(experiment, dataset, accelerator, processes)
    train_state = begun(experiment, built_model(experiment, accelerator), trainer)
    train_state.load_state_dict(state)
    trainer = with_cached_features(
        trainer, train_state.model, experiment.model.gives_features, lambda done, total: None
    )
    for _ in trainer.epochs(train_state):
        pass
    train_state.model.load_state_dict(processes.broadcast_object(None))
    judged(experiment, trainer, train_state.model, dataset, Terminal(quiet=True))


def lead(
    experiment: Experiment,
    accelerator: Accelerator,
    processes: ProcessGroup,
    output_dir: Path,
    callback: RunCallback,
) -> dict[str, float]:
    began = time.perf_counter()
    terminal = callback.terminal
    tracking.connect(experiment.mlflow_experiment)
    before = resumed(experiment)
    start = warm_start(experiment.model.pretrained)
    model = built_model(experiment, accelerator)
    with terminal.progress("data") as advance:
        dataset = first_images(callback.dataset(experiment.data, advance), experiment.fit.few_images)
    terminal.say("data", messages.cohort(dataset))
    terminal.say("split", messages.split(dataset.split))
    for note in dataset.notes:
        terminal.warn(f"          {note}")
    images = Images.of(dataset)
    if before:
        before.refuse_other_images(images, dataset.split.hash)
    elif experiment.resume == "auto":
        before = interrupted(experiment, images, dataset.split.hash, terminal.warn)
    if before and checkpoint.images_of(before.state) is None:
        terminal.warn(
            "          its checkpoint does not know its images: only their ids and split are compared"
        )
    risk = start.leak_risk(images, dataset.split.hash, experiment.model.allow_leak)
    if risk:
        terminal.warn(f"          {risk}: its validation and test figures may flatter")
    for line in (changed := start.differences(images)):
        terminal.warn(f"          since model.pretrained was trained: {line}")
    trainer = assembled(experiment, dataset, accelerator, processes)
    train_state = begun(experiment, model, trainer)
    if before:
        train_state.load_state_dict(before.state)
    with terminal.progress("features") as advance:
        trainer = with_cached_features(trainer, train_state.model, experiment.model.gives_features, advance)
    terminal.say("model", messages.model(experiment, model, trainer.effective_batch))
    terminal.say("device", messages.device(trainer))

    folder = before.folder if before else output_dir / tracking.CHECKPOINTS
    callback.ensure_owned()
    tracker = Tracker.start(
        before.run_id if before else callback.run_id,
        callback.run_name or experiment.run_name,
        {} if before else {**experiment.choices, **experiment.parameters},
        {**tags(experiment, dataset, images, risk, changed, folder), **callback.tags},
        callback.parent,
        OfflineQueue(folder / UNSENT),
        terminal.warn,
        callback.ensure_owned,
    )
    terminal.say("run", f"{tracker.name} · {tracking.place()}")
    if before:
        terminal.say("resumed", messages.resumed(before.state))
    try:
        with tracker:
            if not before:
                log_beginning(tracker, experiment, dataset, trainer, train_state)
            checkpoint_writer = CheckpointWriter(
                folder,
                experiment.identity,
                dataset.split.hash,
                tracker.run_id,
                images,
                start.seen,
                callback.ensure_owned,
                callback.study_id,
            )
            tracker.checkpoints.extend(checkpoint_writer.files)
            try:
                callback.on_start(tracker.run_id, dataset.split.hash, train_state.history)
                processes.broadcast_object(train_state.state_dict() if processes.count > 1 else None)
                with profiled(experiment.fit.profile, tracker) as stepped:
                    train(trainer, train_state, checkpoint_writer, tracker, callback, stepped)
                train_state.model.load_state_dict(
                    processes.broadcast_object(checkpoint_writer.best_weights())
                )
                scored = judged(experiment, trainer, train_state.model, dataset, terminal)
                found = conclude(experiment, trainer, train_state, dataset, scored, tracker, terminal)
            except PrunedError:
                tracker.log(diagnosis.training_metrics(train_state))
                raise
    except KeyboardInterrupt:
        terminal.line()
        terminal.warn(messages.stopped(train_state, tracker.run_id))
        raise
    except MlflowError as error:
        terminal.line()
        terminal.warn(messages.unfinished(train_state, tracker.run_id, folder))
        raise tracking.away(error) from None
    terminal.line(f"{duration(time.perf_counter() - began)} · {tracker.address()}")
    return found


def built_model(experiment: Experiment, accelerator: Accelerator) -> Classifier:
    """A run id in `model.pretrained` becomes the file of that run's best weights."""
    settings = experiment.model
    if settings.pretrained and RUN_ID.fullmatch(settings.pretrained):
        settings = replace(settings, pretrained=str(query.checkpoint_file(settings.pretrained, BEST)))
    torch.manual_seed(experiment.seed)
    return settings(experiment.loss.n_outputs).to(accelerator.device)


def assembled(
    experiment: Experiment,
    dataset: Dataset,
    accelerator: Accelerator,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Trainer:
    train = dataset.split.train
    masks_asked = {
        "augment.relabel": experiment.augment.relabel,
        "model.mask_head": experiment.model.mask_head,
    }
    for name, asked in masks_asked.items():
        if asked and not dataset.store.has_mask[train].any():
            raise InputError(f"{name}=true needs lesion masks, and data={dataset.cohort.name} has none")
    return Trainer(
        settings=experiment.fit,
        accelerator=accelerator,
        loss=experiment.loss.fitted(float(dataset.labels[train].mean())),
        augment=experiment.augment,
        normalise=normaliser(experiment.data.normalise, dataset.store, train),
        batches=Batches(dataset.store, dataset.labels, accelerator.device, experiment.data.num_workers),
        split=dataset.split,
        image_ids=dataset.cohort.table["image_id"].to_numpy(),
        seed=experiment.seed,
        processes=processes,
    )


def begun(experiment: Experiment, model: Classifier, trainer: Trainer) -> TrainState:
    """A training before its first epoch."""
    settings = experiment.fit
    model = model.to(memory_format=trainer.memory_format)
    ema = ModelEma(model, settings.ema_decay) if settings.ema_decay is not None else None
    if settings.compile:
        compiler = os.environ.get("CXX", "g++")
        if trainer.accelerator.device.type == "cpu" and shutil.which(compiler) is None:
            raise InputError(f"fit.compile=true needs a C++ compiler on a CPU, and {compiler} is not here")
        model.compile()
    optimizer = experiment.optimizer(model, trainer.effective_batch)
    lr_controller = experiment.schedule(optimizer, settings.epochs * trainer.steps_per_epoch())
    return TrainState(model, optimizer, lr_controller, trainer.accelerator.scaler(), settings.batch_size, ema)


def train(
    trainer: Trainer,
    train_state: TrainState,
    checkpoint_writer: CheckpointWriter,
    tracker: Tracker,
    callback: RunCallback,
    stepped: Callable[[], None] = lambda: None,
) -> None:
    """Every epoch is kept, then logged, then said; those that were kept but not logged are logged first.
    PrunedError: `watch` stops it."""
    terminal = callback.terminal
    logged = max(query.epochs_of(tracker.run_id, "val/auroc"), default=0) if train_state.history else 0
    for epoch in range(logged + 1, len(train_state.history) + 1):
        tracker.log(train_state.history[epoch - 1], epoch)
    terminal.line()
    terminal.line(messages.EPOCH_HEADING)
    micro_batch = train_state.micro_batch
    with terminal.progress("training") as advance:

        def on_batch(done: int, total: int) -> None:
            advance(done, total)
            stepped()

        for report in trainer.epochs(train_state, on_batch, checkpoint_writer.keep):
            checkpoint_writer.save_epoch(report, train_state)
            if train_state.micro_batch < micro_batch:
                micro_batch = train_state.micro_batch
                terminal.warn(messages.smaller_batch(trainer, micro_batch))
                tracker.tag(micro_batch=micro_batch)
            tracker.log(report.metrics, report.epoch)
            terminal.line(messages.epoch(report, trainer.settings.epochs))
            is_last = train_state.stopped or report.epoch == trainer.settings.epochs
            callback.on_epoch_end(report.epoch, report.metrics, is_last)
    if train_state.stopped and len(train_state.history) < trainer.settings.epochs:
        terminal.line(f"stopped early, {messages.since_best(train_state)}")


def judged(
    experiment: Experiment, trainer: Trainer, model: Classifier, dataset: Dataset, terminal: Terminal
) -> dict[str, SplitResult]:
    """Validation, and test where it is asked for, at the threshold that validation chose."""
    transforms = tta_transforms(experiment.tta)
    parts = {"val": dataset.split.val} | ({"test": dataset.split.test} if experiment.fit.test else {})
    scored: dict[str, SplitResult] = {}
    with terminal.progress("judging") as advance:
        for number, (part, rows) in enumerate(parts.items()):
            advance(number, len(parts))
            predictions = trainer.predict(model, rows, transforms)
            if part == "val":
                threshold = best_f1_threshold(predictions.labels, predictions.scores)
            scored[part] = SplitResult.of(predictions, dataset.patients[rows], threshold)
    return scored


def conclude(
    experiment: Experiment,
    trainer: Trainer,
    train_state: TrainState,
    dataset: Dataset,
    scored: dict[str, SplitResult],
    tracker: Tracker,
    terminal: Terminal,
) -> dict[str, float]:
    """Says, logs and returns what the run came to. Said first: MLflow may be away."""
    part, last = list(scored.items())[-1]
    terminal.line()
    terminal.table(*messages.result(last, part, dataset.patients_known))
    terminal.line(messages.operating_point(last))

    found = diagnosis.training_metrics(train_state)
    tracker.log(found | {"threshold": last.threshold})
    if part == "test":
        tracker.log(last.named("test"))
    if last.collapsed:
        positive_patients = dataset.positive_patients(dataset.split.train)
        reason = diagnosis.likely_reason(experiment, trainer, train_state, positive_patients)
        terminal.line()
        terminal.warn(diagnosis.collapse_message(last, part, reason))
        terminal.line()
        tracker.tag(collapse_reason=reason)
    tracker.tag(
        fit_time=timedelta(seconds=round(found["fit_seconds"])), collapsed=str(last.collapsed).lower()
    )
    tracker.log_text(predictions_csv(scored, dataset), "predictions.csv")
    if experiment.fit.pictures:
        with terminal.progress("pictures") as advance:
            for number, (path, figure) in enumerate(plots.of_run(trainer, train_state, dataset, scored)):
                tracker.log_figure(figure, path)
                advance(number + 1, plots.COUNT)
    return found


def log_beginning(
    tracker: Tracker, experiment: Experiment, dataset: Dataset, trainer: Trainer, train_state: TrainState
) -> None:
    tracker.log(
        {
            **dataset.split.numbers,
            "effective_batch": trainer.effective_batch,
            "processes": trainer.processes.count,
            "resolved_lr": experiment.optimizer.resolved_lr(trainer.effective_batch),
            "trainable_parameters": sum(p.numel() for p in train_state.model.parameters() if p.requires_grad),
            "normalise_mean": trainer.normalise.mean,
            "normalise_std": trainer.normalise.std,
        }
    )
    tracker.log_text(experiment.yaml, "config.yaml")
    if dataset.cohort.skipped:
        tracker.log_text("\n".join(dataset.cohort.skipped) + "\n", "skipped.txt")


def tags(
    experiment: Experiment,
    dataset: Dataset,
    images: Images,
    risk: str | None,
    changed: list[str],
    folder: Path,
) -> dict[str, object]:
    """`risk`: why the weights that it begins with may know its validation and test images; `changed`: what is
    not as it was when they were trained."""
    risks = [one for one in (dataset.split.leak_risk, risk) if one]
    return {
        **experiment.choices,
        "overrides": " ".join(experiment.overrides),
        "config_hash": config_hash(experiment),
        "data_key": dataset.store.key[:12],
        "data_identity": images.data_identity,
        "split_identity": images.split_identity,
        "test_identity": images.test_identity,
        "split_hash": dataset.split.hash,
        "leak_risk": "; ".join(risks) or "none",
        **({"changed_since_pretraining": "; ".join(changed)} if changed else {}),
        "score_format": SCORE_FORMAT,
        "checkpoints": folder.resolve(),
    }


def predictions_csv(scored: dict[str, SplitResult], dataset: Dataset) -> str:
    """A row an image: id, patient, label, score, split."""
    table = dataset.cohort.table
    rows = [
        pd.DataFrame(
            {
                "image_id": table["image_id"].to_numpy()[one.predictions.rows],
                "patient_id": table["patient_id"].to_numpy()[one.predictions.rows],
                "label": one.predictions.labels,
                "score": np.round(one.predictions.scores, 6),
                "split": part,
            }
        )
        for part, one in scored.items()
    ]
    text: str = pd.concat(rows).to_csv(index=False)
    return text
