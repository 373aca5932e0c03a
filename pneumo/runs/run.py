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
from pneumo.data.dataset import Material, limited, prepared
from pneumo.data.normalise import normaliser
from pneumo.display.console import Terminal
from pneumo.display.format import clock
from pneumo.errors import InputError, PrunedError
from pneumo.evaluation.metrics import best_f1_threshold
from pneumo.runs import checkpoint, diagnosis, messages, plots, query, tracking
from pneumo.runs.callback import Watch
from pneumo.runs.checkpoint import BEST, Keeper
from pneumo.runs.diagnosis import Scored
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import Images
from pneumo.runs.offline import UNSENT, Unsent
from pneumo.runs.profiler import profiled
from pneumo.runs.resume import RUN_ID, config_hash, interrupted, resumed
from pneumo.runs.tracking import MlflowError, Tracker
from pneumo.runs.warm_start import warm_start
from pneumo.training.device import Machine, be_deterministic
from pneumo.training.distributed import ALONE, Processes, joined
from pneumo.training.ema import Average
from pneumo.training.feature_cache import remembering
from pneumo.training.predict import views_of
from pneumo.training.state import Training
from pneumo.training.trainer import Fit

SCORE_FORMAT = 2  # of scores and thresholds; 1: label smoothing was not undone in P(pneumothorax)


def run(experiment: Experiment, output_dir: Path, watch: Watch | None = None) -> dict[str, float]:
    """Trains, evaluates and logs; returns the findings, nothing in torchrun's processes after the first.
    InputError: something given is wrong, told before anything is trained. PrunedError: `watch` stopped it."""
    views_of(experiment.tta)
    machine = Machine.chosen(experiment.fit.device, experiment.fit.precision)
    be_deterministic(experiment.fit.deterministic)
    with joined(machine.device) as processes:
        if processes.is_first:
            return lead(experiment, machine, processes, output_dir, watch or Watch())
        follow(experiment, machine, processes)
        return {}


def follow(experiment: Experiment, machine: Machine, processes: Processes) -> None:
    """Its share of what the first process leads."""
    state = processes.said_by_first(None)
    material = limited(prepared(experiment.data, lambda done, total: None), experiment.fit.few_images)
    fit = assembled(experiment, material, machine, processes)
    training = begun(experiment, built_model(experiment, machine), fit)
    training.load_state_dict(state)
    fit = remembering(fit, training.model, experiment.model.gives_features, lambda done, total: None)
    for _ in fit.epochs(training):
        pass
    training.model.load_state_dict(processes.said_by_first(None))
    judged(experiment, fit, training.model, material, Terminal(quiet=True))


def lead(
    experiment: Experiment, machine: Machine, processes: Processes, output_dir: Path, watch: Watch
) -> dict[str, float]:
    began = time.perf_counter()
    terminal = watch.terminal
    tracking.connect(experiment.mlflow_experiment)
    before = resumed(experiment)
    start = warm_start(experiment.model.pretrained)
    model = built_model(experiment, machine)
    with terminal.progress("data") as advance:
        material = limited(watch.material(experiment.data, advance), experiment.fit.few_images)
    terminal.say("data", messages.cohort(material))
    terminal.say("split", messages.split(material.split))
    for note in material.notes:
        terminal.warn(f"          {note}")
    images = Images.of(material)
    if before:
        before.refuse_other_images(images, material.split.hash)
    elif experiment.resume == "auto":
        before = interrupted(experiment, images, material.split.hash, terminal.warn)
    if before and checkpoint.images_of(before.state) is None:
        terminal.warn(
            "          its checkpoint does not know its images: only their ids and split are compared"
        )
    risk = start.leak_risk(images, material.split.hash, experiment.model.allow_leak)
    if risk:
        terminal.warn(f"          {risk}: its validation and test figures may flatter")
    for line in (changed := start.differences(images)):
        terminal.warn(f"          since model.pretrained was trained: {line}")
    fit = assembled(experiment, material, machine, processes)
    training = begun(experiment, model, fit)
    if before:
        training.load_state_dict(before.state)
    with terminal.progress("features") as advance:
        fit = remembering(fit, training.model, experiment.model.gives_features, advance)
    terminal.say("model", messages.model(experiment, model, fit.effective_batch))
    terminal.say("device", messages.device(fit))

    folder = before.folder if before else output_dir / tracking.CHECKPOINTS
    watch.ensure_held()
    tracker = Tracker.start(
        before.run_id if before else watch.run_id,
        watch.run_name or experiment.run_name,
        {} if before else {**experiment.choices, **experiment.parameters},
        {**tags(experiment, material, images, risk, changed, folder), **watch.tags},
        watch.parent,
        Unsent(folder / UNSENT),
        terminal.warn,
        watch.ensure_held,
    )
    terminal.say("run", f"{tracker.name} · {tracking.place()}")
    if before:
        terminal.say("resumed", messages.resumed(before.state))
    try:
        with tracker:
            if not before:
                log_beginning(tracker, experiment, material, fit, training)
            keeper = Keeper(
                folder,
                experiment.identity,
                material.split.hash,
                tracker.run_id,
                images,
                start.seen,
                watch.ensure_held,
                watch.study_id,
            )
            tracker.checkpoints.extend(keeper.files)
            try:
                watch.begins(tracker.run_id, material.split.hash, training.history)
                processes.said_by_first(training.state_dict() if processes.count > 1 else None)
                with profiled(experiment.fit.profile, tracker) as stepped:
                    train(fit, training, keeper, tracker, watch, stepped)
                training.model.load_state_dict(processes.said_by_first(keeper.best_weights()))
                scored = judged(experiment, fit, training.model, material, terminal)
                found = conclude(experiment, fit, training, material, scored, tracker, terminal)
            except PrunedError:
                tracker.log(diagnosis.findings(training))
                raise
    except KeyboardInterrupt:
        terminal.line()
        terminal.warn(messages.stopped(training, tracker.run_id))
        raise
    except MlflowError as error:
        terminal.line()
        terminal.warn(messages.unfinished(training, tracker.run_id, folder))
        raise tracking.away(error) from None
    terminal.line(f"{clock(time.perf_counter() - began)} · {tracker.address()}")
    return found


def built_model(experiment: Experiment, machine: Machine) -> Classifier:
    """A run id in `model.pretrained` becomes the file of that run's best weights."""
    settings = experiment.model
    if settings.pretrained and RUN_ID.fullmatch(settings.pretrained):
        settings = replace(settings, pretrained=str(query.checkpoint_file(settings.pretrained, BEST)))
    torch.manual_seed(experiment.seed)
    return settings(experiment.loss.n_outputs).to(machine.device)


def assembled(
    experiment: Experiment, material: Material, machine: Machine, processes: Processes = ALONE
) -> Fit:
    train = material.split.train
    masks_asked = {
        "augment.relabel": experiment.augment.relabel,
        "model.mask_head": experiment.model.mask_head,
    }
    for name, asked in masks_asked.items():
        if asked and not material.store.has_mask[train].any():
            raise InputError(f"{name}=true needs lesion masks, and data={material.cohort.name} has none")
    return Fit(
        settings=experiment.fit,
        machine=machine,
        loss=experiment.loss.fitted(float(material.labels[train].mean())),
        augment=experiment.augment,
        normalise=normaliser(experiment.data.normalise, material.store, train),
        batches=Batches(material.store, material.labels, machine.device, experiment.data.num_workers),
        split=material.split,
        image_ids=material.cohort.table["image_id"].to_numpy(),
        seed=experiment.seed,
        processes=processes,
    )


def begun(experiment: Experiment, model: Classifier, fit: Fit) -> Training:
    """A training before its first epoch."""
    settings = experiment.fit
    model = model.to(memory_format=fit.memory_format)
    average = Average(model, settings.ema_decay) if settings.ema_decay is not None else None
    if settings.compile:
        compiler = os.environ.get("CXX", "g++")
        if fit.machine.device.type == "cpu" and shutil.which(compiler) is None:
            raise InputError(f"fit.compile=true needs a C++ compiler on a CPU, and {compiler} is not here")
        model.compile()
    optimizer = experiment.optimizer(model, fit.effective_batch)
    pace = experiment.schedule(optimizer, settings.epochs * fit.steps_per_epoch())
    return Training(model, optimizer, pace, fit.machine.scaler(), settings.batch_size, average)


def train(
    fit: Fit,
    training: Training,
    keeper: Keeper,
    tracker: Tracker,
    watch: Watch,
    stepped: Callable[[], None] = lambda: None,
) -> None:
    """Every epoch is kept, then logged, then said; those that were kept but not logged are logged first.
    PrunedError: `watch` stops it."""
    terminal = watch.terminal
    logged = max(query.epochs_of(tracker.run_id, "val/auroc"), default=0) if training.history else 0
    for epoch in range(logged + 1, len(training.history) + 1):
        tracker.log(training.history[epoch - 1], epoch)
    terminal.line()
    terminal.line(messages.EPOCH_HEADING)
    micro_batch = training.micro_batch
    with terminal.progress("training") as advance:

        def on_batch(done: int, total: int) -> None:
            advance(done, total)
            stepped()

        for report in fit.epochs(training, on_batch, keeper.keep):
            keeper.offer(report, training)
            if training.micro_batch < micro_batch:
                micro_batch = training.micro_batch
                terminal.warn(messages.smaller_batch(fit, micro_batch))
                tracker.tag(micro_batch=micro_batch)
            tracker.log(report.figures, report.epoch)
            terminal.line(messages.epoch(report, fit.settings.epochs))
            is_last = training.stopped or report.epoch == fit.settings.epochs
            watch.sees(report.epoch, report.figures, is_last)
    if training.stopped and len(training.history) < fit.settings.epochs:
        terminal.line(f"stopped early, {messages.since_best(training)}")


def judged(
    experiment: Experiment, fit: Fit, model: Classifier, material: Material, terminal: Terminal
) -> dict[str, Scored]:
    """Validation, and test where it is asked for, at the threshold that validation chose."""
    views = views_of(experiment.tta)
    parts = {"val": material.split.val} | ({"test": material.split.test} if experiment.fit.test else {})
    scored: dict[str, Scored] = {}
    with terminal.progress("judging") as advance:
        for number, (part, rows) in enumerate(parts.items()):
            advance(number, len(parts))
            predictions = fit.predict(model, rows, views)
            if part == "val":
                threshold = best_f1_threshold(predictions.labels, predictions.scores)
            scored[part] = Scored.of(predictions, material.patients[rows], threshold)
    return scored


def conclude(
    experiment: Experiment,
    fit: Fit,
    training: Training,
    material: Material,
    scored: dict[str, Scored],
    tracker: Tracker,
    terminal: Terminal,
) -> dict[str, float]:
    """Says, logs and returns what the run came to. Said first: MLflow may be away."""
    part, last = list(scored.items())[-1]
    terminal.line()
    terminal.table(*messages.result(last, part, material.patients_known))
    terminal.line(messages.operating_point(last))

    found = diagnosis.findings(training)
    tracker.log(found | {"threshold": last.threshold})
    if part == "test":
        tracker.log(last.named("test"))
    if last.collapsed:
        positive_patients = material.positive_patients(material.split.train)
        reason = diagnosis.likely_reason(experiment, fit, training, positive_patients)
        terminal.line()
        terminal.warn(diagnosis.collapse(last, part, reason))
        terminal.line()
        tracker.tag(collapse_reason=reason)
    tracker.tag(
        fit_time=timedelta(seconds=round(found["fit_seconds"])), collapsed=str(last.collapsed).lower()
    )
    tracker.keep_text(predictions_csv(scored, material), "predictions.csv")
    if experiment.fit.pictures:
        with terminal.progress("pictures") as advance:
            for number, (path, figure) in enumerate(plots.of_run(fit, training, material, scored)):
                tracker.keep_figure(figure, path)
                advance(number + 1, plots.COUNT)
    return found


def log_beginning(
    tracker: Tracker, experiment: Experiment, material: Material, fit: Fit, training: Training
) -> None:
    tracker.log(
        {
            **material.split.numbers,
            "effective_batch": fit.effective_batch,
            "processes": fit.processes.count,
            "resolved_lr": experiment.optimizer.resolved_lr(fit.effective_batch),
            "trainable_parameters": sum(p.numel() for p in training.model.parameters() if p.requires_grad),
            "normalise_mean": fit.normalise.mean,
            "normalise_std": fit.normalise.std,
        }
    )
    tracker.keep_text(experiment.yaml, "config.yaml")
    if material.cohort.skipped:
        tracker.keep_text("\n".join(material.cohort.skipped) + "\n", "skipped.txt")


def tags(
    experiment: Experiment,
    material: Material,
    images: Images,
    risk: str | None,
    changed: list[str],
    folder: Path,
) -> dict[str, object]:
    """`risk`: why the weights that it begins with may know its validation and test images; `changed`: what is
    not as it was when they were trained."""
    risks = [one for one in (material.split.leak_risk, risk) if one]
    return {
        **experiment.choices,
        "overrides": " ".join(experiment.overrides),
        "config_hash": config_hash(experiment),
        "data_key": material.store.key[:12],
        "data_identity": images.data_identity,
        "split_identity": images.split_identity,
        "test_identity": images.test_identity,
        "split_hash": material.split.hash,
        "leak_risk": "; ".join(risks) or "none",
        **({"changed_since_pretraining": "; ".join(changed)} if changed else {}),
        "score_format": SCORE_FORMAT,
        "checkpoints": folder.resolve(),
    }


def predictions_csv(scored: dict[str, Scored], material: Material) -> str:
    """A row an image: id, patient, label, score, split."""
    table = material.cohort.table
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
