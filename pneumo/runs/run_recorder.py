"""Records a run: prints it, logs it to MLflow, saves its checkpoints, and calls its callback."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from torch import Tensor

from pneumo.data.dataset import Dataset, first_images
from pneumo.display.console import Advance
from pneumo.errors import InputError
from pneumo.runs import checkpoint, diagnosis, logged, loggers, messages, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.checkpoint import CheckpointWriter
from pneumo.runs.collapse import CHANCE, chance_message, find_collapse, ranks_by_chance
from pneumo.runs.diagnosis import Positives, Reason
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import DatasetIdentity
from pneumo.runs.loggers import FurtherLoggers
from pneumo.runs.mlflow_pages import DESCRIPTION, run_description
from pneumo.runs.named_run import described_run, named_run
from pneumo.runs.offline import UNSENT, OfflineQueue
from pneumo.runs.origin import uncommitted_changes
from pneumo.runs.phase_times import PhaseTimes
from pneumo.runs.profiler import profiled
from pneumo.runs.recorder import Recorder
from pneumo.runs.rescue import safer_setting
from pneumo.runs.results import SplitResult, calibrated_brier, predictions_csv, training_metrics
from pneumo.runs.resume import config_hash, resume_latest, resume_named
from pneumo.runs.run_name import RUN_ID
from pneumo.runs.tracker import Tracker
from pneumo.runs.tracking import MlflowError
from pneumo.runs.warm_start import warm_start
from pneumo.training.plateau import Plateau, PlateauDetector
from pneumo.training.state import EpochReport, TrainState
from pneumo.training.trainer import Trainer

INDENT = " " * 10  # under the topic of a line
NOTHING_TO_RESUME = "nothing: there is no unfinished run of this configuration, so a new one begins"
SCORE_FORMAT = 2  # of scores and thresholds; in 1, P(pneumothorax) included the label smoothing


class RunRecorder(Recorder):
    """The recorder of the first process. InputError: MLflow cannot be reached, or the checkpoint to resume
    from or the pretrained weights do not exist or do not fit."""

    def __init__(self, experiment: Experiment, output_dir: Path, callback: RunCallback | None):
        super().__init__(experiment)
        self._callback = callback or RunCallback()
        self._times = PhaseTimes(self._callback.began or time.time(), "loading")
        self.terminal = self._callback.terminal
        loggers.check(experiment.also)
        tracking.connect(experiment.mlflow_experiment)
        self._before = resume_named(experiment)
        self._warm_start = warm_start(experiment.model.pretrained)
        self._output_dir = output_dir

    def load_dataset(self) -> Dataset:
        """Says which run gave the weights, loads and describes the data. InputError: they do not fit the
        checkpoint or pretrained weights."""
        experiment, terminal = self.experiment, self.terminal
        if RUN_ID.fullmatch(experiment.model.pretrained or ""):
            terminal.say("weights", described_run(named_run(str(experiment.model.pretrained))))
        self._times.begin("data")
        with terminal.progress("data") as advance:
            dataset = self._callback.dataset(experiment.data, advance)
        dataset = first_images(dataset, experiment.fit.few_images)
        terminal.say("data", messages.cohort_line(dataset))
        if dataset.cohort.columns:
            terminal.say("columns", dataset.cohort.columns)
        terminal.say("split", messages.split_line(dataset.split))
        for note in dataset.notes:
            terminal.warn(f"{INDENT}{note}")
        self._images, split_hash = DatasetIdentity.of(dataset), dataset.split.hash
        if self._before:
            self._before.refuse_other_images(self._images, split_hash)
        elif experiment.resume == "auto":
            self._before = resume_latest(experiment, self._images, split_hash, terminal.warn)
            if self._before is None:
                terminal.say("resumed", NOTHING_TO_RESUME)
        if self._before and checkpoint.images_of(self._before.state) is None:
            terminal.warn(
                f"{INDENT}the checkpoint is too old to record its images: only ids and split are compared"
            )
        self._leak_risk = self._warm_start.leak_risk(self._images, split_hash, experiment.model.allow_leak)
        if self._leak_risk:
            terminal.warn(f"{INDENT}{self._leak_risk}: its validation and test metrics may be too high")
        self._changes = self._warm_start.differences(self._images)
        for line in self._changes:
            terminal.warn(f"{INDENT}since model.pretrained was trained: {line}")
        self._times.begin("loading")
        return dataset

    @property
    def resumes_second_attempt(self) -> bool:
        return bool(self._before and self._before.state.get("abandoned"))

    def resume(self, train_state: TrainState, n_processes: int) -> None:
        if self._before:
            self._before.refuse_other_processes(n_processes)
            train_state.load_state_dict(self._before.state)

    @contextmanager
    def recording(self, dataset: Dataset, trainer: Trainer, train_state: TrainState) -> Iterator[None]:
        self._dataset, self._trainer, self._train_state = dataset, trainer, train_state
        self._find_plateau = PlateauDetector(trainer)
        experiment, terminal = self.experiment, self.terminal
        is_second = bool(train_state.abandoned)
        model, batch = train_state.model, trainer.effective_batch
        terminal.say("model", messages.model_line(experiment, model, batch, is_second))
        if self._warm_start.with_mask_head and train_state.model.mask_head is None:
            terminal.warn(f"{INDENT}{messages.without_mask_head(self._warm_start.pretrained)}")
        terminal.say("device", messages.device_line(trainer))
        before = self._before
        folder = self._output_dir / tracking.CHECKPOINTS
        folder = before.folder(folder) if before else folder
        self._callback.ensure_owned()
        constants = logged.constants(experiment, dataset, trainer, train_state)
        self._tracker = tracker = Tracker.start(
            experiment,
            self._callback,
            self._tags(folder),
            OfflineQueue(folder / UNSENT),
            before.state["run_id"] if before else None,
            constants,
        )
        self._is_new = before is None or before.state["run_id"] != tracker.run_id
        try:
            with ExitStack() as afterwards, tracker:
                terminal.say("run", f"{tracker.name} · {tracking.store_name()}")
                run = (tracker.run_id, tracker.name, folder.parent, constants, train_state)
                self._also = FurtherLoggers.of(experiment, self._callback, *run)
                afterwards.callback(self._also.close)
                if before:
                    terminal.say("resumed", messages.resumed_line(before.state))
                    if self._is_new:
                        terminal.warn(f"{INDENT}{messages.lost_run(before.state['run_id'])}")
                self._log_start(folder)
                self._callback.on_start(tracker.run_id, dataset.split.hash, train_state.all_epochs)
                yield
        except KeyboardInterrupt:
            terminal.line()
            terminal.warn(messages.stopped_message(self._train_state, tracker.run_id))
            raise
        except MlflowError as error:
            terminal.line()
            where = folder / checkpoint.LAST if tracking.is_lost(error) else tracker.run_id
            terminal.warn(messages.unfinished_message(self._train_state, where, folder))
            raise tracking.unreachable(error) from None
        terminal.say("time", self._times.summary())
        terminal.say("result", tracker.address())
        terminal.say("all runs", tracking.runs_url(tracker.experiment_id))

    @contextmanager
    def training(self) -> Iterator[Advance]:
        """Epochs that were saved but not logged, because MLflow was away for example, are logged first."""
        self._times.begin("training")
        train_state, terminal = self._train_state, self.terminal
        epochs = train_state.all_epochs
        sent = query.metric_history(self._tracker.run_id, "val/auroc") if epochs else {}
        last = max(sent, default=0)
        for number, metrics in enumerate(epochs[last:], start=last + 1):
            self._tracker.log(metrics, number)
        terminal.line()
        terminal.line(messages.EPOCH_HEADING)
        self._micro_batch = train_state.micro_batch
        with (
            profiled(self.experiment.fit.profile, self._tracker) as step,
            terminal.progress("training") as advance,
        ):

            def on_batch(done: int, total: int) -> None:
                advance(done, total)
                step()

            yield on_batch
        self._times.begin("evaluating")
        train_state = self._train_state
        if train_state.stopped and len(train_state.history) < self.experiment.fit.epochs:
            waited, best = len(train_state.history) - train_state.best_epoch, train_state.best_epoch
            terminal.line(f"stopped early, {waited} epochs after the best, epoch {best}")

    def save(self, train_state: TrainState) -> None:
        self._checkpoints.save(train_state)

    def on_fewer_threads(self, threads: int, most: int) -> None:
        self.terminal.warn(messages.fewer_threads_message(threads, most))

    def on_epoch_end(self, report: EpochReport) -> None:
        train_state, epochs = self._train_state, self.experiment.fit.epochs
        self._checkpoints.save_epoch(report, train_state)
        if train_state.micro_batch < self._micro_batch:
            self._micro_batch = train_state.micro_batch
            self.terminal.warn(messages.smaller_batch_message(self._trainer, self._micro_batch))
            self._tag_now(micro_batch=self._micro_batch)
        step = len(train_state.all_epochs)
        so_far = logged.summary_metrics(training_metrics(train_state), self._callback.objectives)
        self._tracker.log(report.metrics, step, so_far)
        self._also.log_epoch(step, report.metrics)
        self.terminal.line(messages.epoch_line(report, epochs))
        is_last = train_state.stopped or report.epoch == epochs
        self._callback.on_epoch_end(step, report.metrics, is_last)

    def has_to_begin_again(self) -> bool:
        """Says that the training is on a plateau, and why, after the first epoch of which that is true, at
        the latest after the one that stops it."""
        train_state = self._train_state
        plateau = self._find_plateau(train_state.history, train_state.stopped)
        if plateau is None or self._find_plateau(train_state.history[:-1]):
            return False
        reason = self._likely_reason(plateau)
        self.terminal.warn(messages.plateau_message(plateau, reason.text))
        return self.experiment.fit.rescue and not train_state.abandoned and reason.again

    def on_second_attempt(self, trainer: Trainer, train_state: TrainState) -> None:
        self._trainer, self._train_state = trainer, train_state
        self._find_plateau = PlateauDetector(trainer)
        self._micro_batch = train_state.micro_batch
        self.terminal.warn(messages.second_attempt_message(self.experiment))
        self._tag_now(**self._rescue_tags())
        self._checkpoints.save_beginning(train_state)

    def _likely_reason(self, plateau: Plateau | None) -> Reason:
        reason = diagnosis.likely_reason(
            self.experiment, self._trainer, self._train_state, self._dataset, self._find_plateau, plateau
        )
        return diagnosis.with_advice(reason, self.experiment, self._dataset)

    def _tag_now(self, **tags: object) -> None:
        """Tags the run, unless MLflow is away: `finish` does it again."""
        with suppress(MlflowError), tracking.short_timeouts():
            self._tracker.tag(**tags)

    def _rescue_tags(self) -> dict[str, object]:
        """The tags of a run in its second attempt."""
        setting = {f"rescue/{name}": value for name, value in safer_setting(self.experiment).items()}
        return {"rescued_at_epoch": len(self._train_state.abandoned), **setting}

    def best_weights(self) -> Mapping[str, Tensor]:
        return self._checkpoints.best_weights()

    def finish(self, results: Mapping[str, SplitResult]) -> dict[str, float]:
        dataset, train_state, terminal = self._dataset, self._train_state, self.terminal
        tracker = self._tracker
        split, last = list(results.items())[-1]
        if split == "test":  # counts as evaluated before it is shown
            with suppress(MlflowError, InputError), tracking.short_timeouts():
                evaluations = query.test_evaluations_of(query.find_run(tracker.run_id)) + 1
                tracker.tag(test_evaluations=evaluations)
        terminal.line()  # printed before anything is logged, as MLflow may be away
        terminal.table(*messages.result_table(last, split, dataset.patients_known))
        terminal.line(messages.operating_point(last))

        brier = {"best/val_calibrated_brier": calibrated_brier(results["val"])}
        metrics = training_metrics(train_state) | brier
        shown = logged.summary_metrics(metrics, self._callback.objectives)
        shown |= last.named("test") if split == "test" else {}
        tracker.log(shown)
        self._also.log_results(shown)
        collapse = find_collapse(last, split, Positives.of(dataset), self._trainer, train_state)
        by_chance = ranks_by_chance(last)
        if collapse:
            reason = self._likely_reason(self._find_plateau(train_state.history, train_state.stopped)).text
            terminal.line()
            terminal.warn(collapse.message(reason))
            terminal.line()
            if collapse.is_certain:
                tracker.tag(collapse_reason=reason)
        elif by_chance:
            terminal.line()
            terminal.warn(chance_message(last, split))
            terminal.line()
        fit_time = timedelta(seconds=round(metrics["fit_seconds"]))
        description = run_description(self.experiment, dataset, train_state, results)
        tracker.tag(
            fit_time=fit_time,
            collapsed=collapse.tag if collapse else CHANCE if by_chance else "false",
            **{logged.THRESHOLD: repr(float(last.threshold)), DESCRIPTION: description},
        )
        if train_state.abandoned:
            tracker.tag(**self._rescue_tags())  # MLflow may have been away when it began again
        if train_state.micro_batch < self.experiment.fit.batch_size:
            tracker.tag(micro_batch=train_state.micro_batch)
        tracker.log_text(predictions_csv(results, dataset), "predictions.csv")
        tracker.log_text(logged.results_json(metrics, train_state.all_epochs, results), logged.RESULTS)
        if self.experiment.fit.pictures:
            self._times.begin("pictures")
            from pneumo.runs import plots  # matplotlib would delay the first step by a second

            with terminal.progress("plots") as advance:
                figures = plots.of_run(self._trainer, train_state, dataset, results)
                for number, (path, figure) in enumerate(figures, start=1):
                    tracker.log_figure(figure, path)
                    self._also.log_picture(path, figure)
                    advance(number, plots.COUNT)
        self._times.begin("saving")
        return metrics

    def _log_start(self, folder: Path) -> None:
        """Logs what is known before the first epoch, and opens the folder of checkpoints."""
        experiment, dataset, tracker = self.experiment, self._dataset, self._tracker
        if self._is_new:
            tracker.log_dataset(self._images.data_identity, dataset)
            tracker.log_text(experiment.yaml, "config.yaml")
            if experiment.plan:
                tracker.log_text(experiment.plan, "plan.yaml")
            if patch := uncommitted_changes():
                tracker.log_text(patch, "uncommitted.patch")
            if dataset.cohort.skipped:
                tracker.log_text("\n".join(dataset.cohort.skipped) + "\n", "skipped.txt")
        self._checkpoints = CheckpointWriter(
            folder,
            tracker.run_id,
            experiment.identity,
            self._images,
            dataset.split.hash,
            self._trainer.processes.count,
            self._warm_start.seen,
            self._callback,
        )
        if not self._train_state.history:
            self._checkpoints.remove_best()
        tracker.checkpoints.extend(self._checkpoints.files)

    def _tags(self, folder: Path) -> dict[str, object]:
        experiment, dataset, images = self.experiment, self._dataset, self._images
        risks = filter(None, (dataset.split.leak_risk, self._leak_risk))
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
            **({"changed_since_pretraining": "; ".join(self._changes)} if self._changes else {}),
            "score_format": SCORE_FORMAT,
            "checkpoints": folder.resolve(),
            **(
                {} if self._before else {DESCRIPTION: run_description(experiment, dataset, self._train_state)}
            ),
        }
