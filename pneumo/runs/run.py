"""Runs an experiment: loads the data, trains the model, evaluates it, and returns the metrics.

Every process of a distributed training calls `run` and takes the same steps. A recorder prints, logs and
saves; in processes after the first it does nothing."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from pneumo.components.models import Classifier
from pneumo.data.batches import Batches
from pneumo.data.dataset import Dataset
from pneumo.data.normalise import normaliser
from pneumo.display.console import Advance, Terminal
from pneumo.errors import InputError, TooLittleMemoryError
from pneumo.evaluation.metrics import best_f1_threshold
from pneumo.runs.callback import RunCallback
from pneumo.runs.checkpoint import BEST
from pneumo.runs.experiment import Experiment
from pneumo.runs.recorder import Recorder
from pneumo.runs.rescue import second_attempt
from pneumo.runs.results import SplitResult
from pneumo.runs.resume import checkpoint_path
from pneumo.runs.run_recorder import RunRecorder
from pneumo.training.cpu_threads import limited_threads
from pneumo.training.device import Accelerator, is_out_of_memory, set_deterministic
from pneumo.training.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from pneumo.training.ema import ModelEma
from pneumo.training.feature_cache import with_cached_features
from pneumo.training.predict import tta_transforms
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer


def run(experiment: Experiment, output_dir: Path, callback: RunCallback | None = None) -> dict[str, float]:
    """Trains, evaluates and logs a run, and returns its metrics by name; {} in processes after the first.

    InputError: the experiment or its data are not valid, which is found before training begins.
    PrunedError: `callback` stopped the run."""
    tta_transforms(experiment.tta)  # refuses an unknown name before the data are loaded
    accelerator = Accelerator.chosen(experiment.fit.device, experiment.fit.precision)
    set_deterministic(experiment.fit.deterministic)
    with process_group(accelerator.device) as processes:
        first = processes.is_first
        recorder = RunRecorder(experiment, output_dir, callback) if first else Recorder(experiment)
        model = build_model(experiment, accelerator)
        with processes.first_before_others():  # the first builds the pixel store, the others read it
            dataset = recorder.load_dataset()
        attempt = experiment
        if processes.broadcast_object(recorder.resumes_second_attempt):
            attempt = second_attempt(experiment)
            model = build_model(attempt, accelerator)
        trainer = build_trainer(attempt, dataset, accelerator, processes)
        train_state = build_train_state(attempt, model, trainer)
        recorder.resume(train_state, processes.count)
        if processes.count > 1:
            train_state.load_state_dict(processes.broadcast_state(train_state.state_dict()))
        with recorder.terminal.progress("features") as advance:
            trainer = with_cached_features(trainer, model, experiment.model.gives_features, advance)

        with recorder.recording(dataset, trainer, train_state):
            with (
                recorder.training() as advance,
                limited_threads(trainer, advance, recorder.on_fewer_threads) as on_batch,
            ):
                while not train(trainer, train_state, recorder, on_batch):
                    attempt = second_attempt(experiment)
                    train_state.release()
                    accelerator.forget()
                    model = build_model(attempt, accelerator)
                    trainer = following_trainer(trainer, attempt)
                    train_state = follow_up(build_train_state(attempt, model, trainer), train_state)
                    trainer = with_cached_features(
                        trainer, model, experiment.model.gives_features, lambda done, total: None
                    )
                    recorder.on_second_attempt(trainer, train_state)
            model.load_state_dict(processes.broadcast_object(recorder.best_weights()))
            return recorder.finish(evaluate(experiment, trainer, model, dataset, recorder.terminal))


def train(trainer: Trainer, train_state: TrainState, recorder: Recorder, on_batch: Advance) -> bool:
    """Trains to the last epoch; False if the training has to begin again. The first process decides that by
    the history alone, so that a resumed run decides the same."""
    reports = trainer.epochs(train_state, on_batch, recorder.save)
    while not trainer.processes.broadcast_object(recorder.has_to_begin_again()):
        if (report := next(reports, None)) is None:
            return True
        recorder.on_epoch_end(report)
    return False


def build_model(experiment: Experiment, accelerator: Accelerator) -> Classifier:
    """The model on its device. A run id in `model.pretrained` stands for the best weights of that run.
    TooLittleMemoryError: it does not fit there."""
    config = experiment.model
    if config.pretrained:
        config = replace(config, pretrained=str(checkpoint_path(config.pretrained, BEST)))
    torch.manual_seed(experiment.seed)
    try:
        return config(experiment.loss.n_outputs).to(accelerator.device)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise TooLittleMemoryError(
                f"The model does not fit into memory on {accelerator.device}"
            ) from error
        raise


def build_trainer(
    experiment: Experiment,
    dataset: Dataset,
    accelerator: Accelerator,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Trainer:
    """The trainer of an experiment. InputError: it needs lesion masks, and no training image has one."""
    train = dataset.split.train
    needs_masks = {
        "augment.relabel": experiment.augment.relabel,
        "model.mask_head": experiment.model.mask_head,
    }
    for name, value in needs_masks.items():
        if value is True and not dataset.store.has_mask[train].any():
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


def following_trainer(first: Trainer, attempt: Experiment) -> Trainer:
    """The trainer of a second attempt, on the batches and the normalisation of the first."""
    return replace(first, settings=attempt.fit, augment=attempt.augment, seed=attempt.seed, features=None)


def build_train_state(experiment: Experiment, model: Classifier, trainer: Trainer) -> TrainState:
    """Model, optimizer and schedule before the first epoch.
    InputError: fit.compile needs a compiler that is not there."""
    settings = experiment.fit
    if not trainer.has_masks:  # model.mask_head=auto
        model.without_mask_head()
    model = model.to(memory_format=trainer.memory_format)
    ema = ModelEma(model, settings.ema_decay) if settings.ema_decay is not None else None
    if settings.compile:
        compiler = os.environ.get("CXX", "g++")
        if trainer.accelerator.device.type == "cpu" and shutil.which(compiler) is None:
            raise InputError(f"fit.compile=true needs a C++ compiler on a CPU, and {compiler} is not found")
        model.compile()
    optimizer = experiment.optimizer(model, trainer.effective_batch)
    lr_controller = experiment.schedule(optimizer, settings.epochs * trainer.steps_per_epoch())
    return TrainState(model, optimizer, lr_controller, trainer.accelerator.scaler(), settings.batch_size, ema)


def follow_up(train_state: TrainState, first: TrainState) -> TrainState:
    """The state of a second attempt, which keeps the history of the first and what fits into memory."""
    train_state.abandoned, train_state.micro_batch = first.history, first.micro_batch
    return train_state


def evaluate(
    experiment: Experiment, trainer: Trainer, model: Classifier, dataset: Dataset, terminal: Terminal
) -> dict[str, SplitResult]:
    """Results by split: val and, with fit.test, test, both at the threshold of the best F1 on val."""
    transforms = tta_transforms(experiment.tta)
    splits = {"val": dataset.split.val} | ({"test": dataset.split.test} if experiment.fit.test else {})
    results: dict[str, SplitResult] = {}
    with terminal.progress("evaluating") as advance:
        for number, (split, rows) in enumerate(splits.items()):
            advance(number, len(splits))
            predictions = trainer.predict(model, rows, transforms)
            if split == "val":
                threshold = best_f1_threshold(predictions.labels, predictions.scores)
            results[split] = SplitResult.of(predictions, dataset.patients[rows], threshold)
    return results
