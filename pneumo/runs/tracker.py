"""The MLflow run that this process trains, from its start to its end."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _active_run_stack, run_id_to_system_metrics_monitor

from pneumo.display.address import hidden
from pneumo.errors import PrunedError, SupersededError
from pneumo.runs.callback import RunCallback
from pneumo.runs.experiment import Experiment
from pneumo.runs.offline import OfflineQueue
from pneumo.runs.origin import origin_tags
from pneumo.runs.tracking import (
    CHECKPOINTS,
    known_run,
    log_dataset,
    log_figure,
    log_file,
    log_queued,
    log_text,
    queued_now,
    run_url,
    short_timeouts,
    store_name,
    tag_run,
    unreachable,
    uses_server,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pneumo.data.dataset import Dataset

SYSTEM_METRICS_SECONDS = 5
PARAMETERS_A_CALL = 100  # MLflow's limit


@dataclass(frozen=True)
class Tracker(AbstractContextManager["Tracker"]):
    """The MLflow run of this process. While MLflow is away, metrics wait in `offline_queue`; every other call
    raises MlflowError. Each call raises SupersededError once another process has taken over the run."""

    run_id: str
    name: str
    experiment_id: str
    offline_queue: OfflineQueue
    callback: "RunCallback"
    checkpoints: list[Path] = field(default_factory=list)  # uploaded when the run ends

    @classmethod
    def start(
        cls,
        experiment: "Experiment",
        callback: "RunCallback",
        tags: Mapping[str, object],
        offline_queue: OfflineQueue,
        resumed_id: str | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> "Tracker":
        """Starts a new run, or continues the one of `resumed_id` or of the callback if MLflow has it, and
        logs the metrics that wait in `offline_queue` for that; a new run has the configuration and
        `constants` as parameters. AwayError: MLflow cannot be reached."""
        mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)  # type: ignore[no-untyped-call]
        tags = {**tags, **callback.tags, **origin_tags()}
        try:
            run_id = known_run(resumed_id or callback.run_id)
            is_new = resumed_id is None or run_id is None
            settings = {**experiment.choices, **experiment.parameters, **(constants or {})}
            parameters = settings if is_new else {}
            run = mlflow.start_run(
                run_id=run_id,
                run_name=callback.run_name or experiment.run_name,
                parent_run_id=None if run_id else callback.parent,
                tags={key: str(value) for key, value in tags.items()},
                log_system_metrics=True,
            )
            known = run.data.params  # of a run that was killed before its first checkpoint
            params = [Param(key, str(value)) for key, value in parameters.items() if key not in known]
            for start in range(0, len(params), PARAMETERS_A_CALL):
                mlflow.MlflowClient().log_batch(
                    run.info.run_id, params=params[start : start + PARAMETERS_A_CALL]
                )
            if run_id:  # of a new run all epochs are logged, from the first one
                log_queued(run.info.run_id, offline_queue.entries())
            offline_queue.clear()
        except MlflowException as error:
            abandon()
            raise unreachable(error) from None
        except KeyboardInterrupt:
            abandon("KILLED")
            raise
        return cls(run.info.run_id, run.info.run_name, run.info.experiment_id, offline_queue, callback)

    def log(
        self, metrics: Mapping[str, float], step: int = 0, of_run: Mapping[str, float] | None = None
    ) -> None:
        """Logs metrics, by name, after those that wait; while MLflow is away, adds them to those. `of_run`:
        metrics of the whole run so far, which have no step."""
        self.callback.ensure_owned()
        new, waiting, warn = (
            [queued_now(metrics, step), *([queued_now(of_run)] if of_run else [])],
            self.offline_queue.entries(),
            self.callback.terminal.warn,
        )
        path = self.offline_queue.path
        try:
            with short_timeouts():
                log_queued(self.run_id, [*waiting, *new])
        except MlflowException as error:
            self.offline_queue.add(*new)
            if not waiting:
                warn(f"{unreachable(error)}; the run goes on, its metrics wait in {path}")
            return
        self.offline_queue.clear()
        if waiting:
            warn(f"MLflow at {store_name()} has been sent what waited in {path}")

    def owned_id(self) -> str:
        """The run's id, for a call that writes to it."""
        self.callback.ensure_owned()
        return self.run_id

    def tag(self, **tags: object) -> None:
        tag_run(self.owned_id(), **tags)

    def log_text(self, text: str, path: str) -> None:
        log_text(self.owned_id(), text, path)

    def log_figure(self, figure: "Figure", path: str) -> None:
        log_figure(self.owned_id(), figure, path)

    def log_dataset(self, data_identity: str, dataset: "Dataset") -> None:
        """Names the data of the run, with the numbers of its splits."""
        numbers = dataset.split.numbers
        of_split = {
            split: {k.split("_", 1)[1]: v for k, v in numbers.items() if k.startswith(f"split/{split}_")}
            for split in ("train", "val", "test")
        }
        log_dataset(self.owned_id(), dataset.cohort.name, data_identity, of_split)

    def log_artifact(self, file: Path, folder: str) -> None:
        log_file(self.owned_id(), file, folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Ends the run; see `end`. An error of the block is not replaced by one that only reports that MLflow
        is away or its disk full. A run that another process has taken over stays as it is; one that is
        interrupted while its checkpoints are uploaded ends without them."""
        try:
            with short_timeouts() if isinstance(error, MlflowException) else nullcontext():
                self.end(error)
        except SupersededError:
            detach()
            if not isinstance(error, KeyboardInterrupt):
                raise
        except (MlflowException, OSError):
            abandon()
            if error is None or isinstance(error, PrunedError):
                raise
        except KeyboardInterrupt:
            abandon("KILLED")
            raise

    def end(self, error: BaseException | None) -> None:
        """Uploads the checkpoints and ends the run as FINISHED, as KILLED where it was interrupted or pruned,
        else as FAILED with the reason as a tag."""
        if isinstance(error, SupersededError):
            raise error
        log_queued(self.owned_id(), self.offline_queue.entries())
        self.offline_queue.clear()
        files = [file for file in self.checkpoints if file.exists()]
        if files and isinstance(error, KeyboardInterrupt) and uses_server():
            self.callback.terminal.say("stopping", f"its checkpoints are sent to {store_name()}")
        for file in files:
            self.log_artifact(file, CHECKPOINTS)
        if error is None or isinstance(error, KeyboardInterrupt):
            mlflow.end_run("KILLED" if error else "FINISHED")
        elif isinstance(error, PrunedError):
            self.tag(pruned=error)
            mlflow.end_run("KILLED")
        else:
            self.tag(failure=hidden(f"{type(error).__name__}: {error}")[:500])
            mlflow.end_run("FAILED")

    def address(self) -> str:
        """The address of the run's page, or how to find it in a local `mlflow ui`."""
        if uses_server():
            return run_url(self.experiment_id, self.run_id)
        return f"mlflow ui, then open {self.name}"


def abandon(status: str = "FAILED") -> None:
    """Ends this process's active run; where MLflow is away, in this process alone. MLflow ends one that stays
    active as FINISHED when Python exits."""
    with suppress(MlflowException), short_timeouts():
        mlflow.end_run(status)


def detach() -> None:
    """Leaves this process's active run without ending it, since another process continues it. MLflow's own
    functions that leave a run all end it."""
    active_runs = _active_run_stack.get()  # type: ignore[no-untyped-call]
    for run in active_runs:
        if monitor := run_id_to_system_metrics_monitor.pop(run.info.run_id, None):
            monitor.finish()
    active_runs.clear()
