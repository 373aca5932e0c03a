"""Writes runs to MLflow: the connection, calls on runs by their id, and `Tracker`, the run that this process
trains. `query` reads runs."""

import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import mlflow
import psutil
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _active_run_stack, run_id_to_system_metrics_monitor

from pneumo.display.address import TRACKING, hidden, parsed, shown
from pneumo.errors import AwayError, InputError, PrunedError, SupersededError
from pneumo.runs.offline import OfflineQueue, QueuedMetrics

if TYPE_CHECKING:
    from pneumo.runs.callback import RunCallback
    from pneumo.runs.experiment import Experiment

SYSTEM_METRICS_SECONDS = 5
CHECKPOINTS = "checkpoints"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
BRIEF = {RETRIES: "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}  # seconds
LOCAL_PAGES = "http://127.0.0.1:5000"  # where a bare `mlflow ui` serves
METRICS_A_CALL, PARAMETERS_A_CALL = 1000, 100  # MLflow's limits
MlflowError = MlflowException  # what a call raises when MLflow cannot be reached any more


def connect(experiment: str | None = None) -> None:
    """Connects to MLFLOW_TRACKING_URI or, by default, to mlflow.db in the working directory, and makes
    `experiment` the one that new runs belong to. Both are created if they do not exist.
    InputError: MLflow cannot be reached."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault(RETRIES, "5")  # a server that is away is waited for about a minute
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # its thread logs that a server is away, with the password in the address
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    here = Path.cwd()
    given = without_credentials(os.environ.get(TRACKING))
    local = given is None
    lock = FileLock(here / "mlflow.db.lock") if local else nullcontext()
    with lock:  # two first migrations at once break the database
        mlflow.set_tracking_uri(given or f"sqlite:///{here / 'mlflow.db'}")
        try:
            with short_timeouts():
                mlflow.MlflowClient().search_experiments(max_results=1)
            if experiment is None:
                return
            if local and mlflow.get_experiment_by_name(experiment) is None:
                mlflow.create_experiment(experiment, artifact_location=(here / "mlruns").as_uri())
            mlflow.set_experiment(experiment)
        except MlflowException as error:
            raise unreachable(error) from None


def without_credentials(address: str | None) -> str | None:
    """The address without user and password. They move to environment variables that MLflow reads too, so
    that none of its messages contains them. InputError: the address is ambiguous about where a password
    ends."""
    if address is None or not address.startswith("http"):
        return address
    try:
        url = parsed(address)
    except InputError as error:
        raise InputError(f"{TRACKING}: {error}") from None
    if url.username and url.password:
        os.environ["MLFLOW_TRACKING_USERNAME"] = url.username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = url.password
        address = re.sub("://.*@", "://", address)
        os.environ[TRACKING] = address
    return address


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Inside the block, MLflow waits seconds rather than a minute for a server that is away."""
    before = {name: os.environ.get(name) for name in BRIEF}
    os.environ.update(BRIEF)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def unreachable(error: MlflowException) -> AwayError:
    """An error whose message names the last cause in the long line of causes that MLflow gives."""
    line = hidden(str(error).splitlines()[0])
    causes: list[str] = re.findall(
        r"(?i:connection refused|timed out|name or service not known|unreachable)", line
    )
    return AwayError(f"MLflow at {store_name()} cannot be used: {causes[-1] if causes else line[:300]}")


def create_parent_run(experiment: str, name: str, tags: Mapping[str, object]) -> str:
    """Creates a run that can be the parent of others, and returns its id."""
    run = mlflow.MlflowClient().create_run(
        mlflow.set_experiment(experiment).experiment_id,
        run_name=name,
        tags={key: str(value) for key, value in tags.items()},
    )
    return str(run.info.run_id)


def tag_run(run_id: str, **tags: object) -> None:
    """Sets tags of a run, which may have ended."""
    mlflow.MlflowClient().log_batch(run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])


def log_run(run_id: str, metrics: Mapping[str, float]) -> None:
    """Logs metrics, by name, at step 0 of a run, which may have ended."""
    log_queued(run_id, [queued_now(metrics)])


def queued_now(metrics: Mapping[str, float], step: int = 0) -> QueuedMetrics:
    """The metrics with the current time."""
    return QueuedMetrics(
        {name: float(value) for name, value in metrics.items()}, step, round(time.time() * 1000)
    )


def log_queued(run_id: str, entries: Sequence[QueuedMetrics]) -> None:
    """Logs metrics in as few calls as possible; MLflow ignores those that it already has."""
    metrics = [Metric(k, value, one.at_ms, one.step) for one in entries for k, value in one.metrics.items()]
    for start in range(0, len(metrics), METRICS_A_CALL):
        mlflow.MlflowClient().log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])


def log_text(run_id: str, text: str, path: str) -> None:
    """Writes a text to a file, `path`, among the run's artifacts."""
    mlflow.MlflowClient().log_text(run_id, text, path)


def log_figure(run_id: str, figure: Figure, path: str) -> None:
    """Writes a plot to an image file, `path`, among the run's artifacts."""
    mlflow.MlflowClient().log_figure(run_id, figure, path)


def reopen_run(run_id: str) -> None:
    """Sets the status of a run that has ended to RUNNING."""
    mlflow.MlflowClient().update_run(run_id, status="RUNNING")


def end_run(run_id: str, status: str) -> None:
    """Ends a run that another process began; `status` is FINISHED, FAILED or KILLED."""
    mlflow.MlflowClient().set_terminated(run_id, status)


def store_name() -> str:
    """The address of the MLflow store for messages: relative to the working directory, without a password."""
    uri: str = mlflow.get_tracking_uri()
    return shown(uri.removeprefix(f"sqlite:///{Path.cwd()}/"))


def uses_server() -> bool:
    """Whether runs are stored by an MLflow server rather than in a local file."""
    return mlflow.get_tracking_uri().startswith("http")


def run_url(experiment_id: str, run_id: str) -> str:
    """The address of a run's page on the MLflow server or, without a server, in a local `mlflow ui`."""
    server = store_name().rstrip("/") if uses_server() else LOCAL_PAGES
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"


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
    ) -> "Tracker":
        """Starts a new run, or continues the run of `resumed_id` or of the callback, and logs the metrics in
        `offline_queue`. AwayError: MLflow cannot be reached."""
        mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)  # type: ignore[no-untyped-call]
        run_id = resumed_id or callback.run_id
        tags = {**tags, **callback.tags, **origin_tags()}
        parameters = {} if resumed_id else {**experiment.choices, **experiment.parameters}
        try:
            run = mlflow.start_run(
                run_id=run_id,
                run_name=callback.run_name or experiment.run_name,
                parent_run_id=None if run_id else callback.parent,
                tags={key: str(value) for key, value in tags.items()},
                log_system_metrics=True,
            )
            params = [Param(key, str(value)) for key, value in parameters.items()]
            for start in range(0, len(params), PARAMETERS_A_CALL):
                mlflow.MlflowClient().log_batch(
                    run.info.run_id, params=params[start : start + PARAMETERS_A_CALL]
                )
            log_queued(run.info.run_id, offline_queue.entries())
            offline_queue.clear()
        except MlflowException as error:
            abandon()
            raise unreachable(error) from None
        return cls(run.info.run_id, run.info.run_name, run.info.experiment_id, offline_queue, callback)

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs metrics, by name, after those that wait; while MLflow is away, adds them to those."""
        self.callback.ensure_owned()
        new, waiting, warn = (
            queued_now(metrics, step),
            self.offline_queue.entries(),
            self.callback.terminal.warn,
        )
        path = self.offline_queue.path
        try:
            with short_timeouts():
                log_queued(self.run_id, [*waiting, new])
        except MlflowException as error:
            self.offline_queue.add(new)
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

    def log_figure(self, figure: Figure, path: str) -> None:
        log_figure(self.owned_id(), figure, path)

    def log_artifact(self, file: Path, folder: str) -> None:
        mlflow.MlflowClient().log_artifact(self.owned_id(), str(file), folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Ends the run; see `end`. An error of the block is not replaced by one that only reports that MLflow
        is away or its disk full. A run that another process has taken over stays as it is."""
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

    def end(self, error: BaseException | None) -> None:
        """Uploads the checkpoints and ends the run as FINISHED, as KILLED where it was interrupted or pruned,
        else as FAILED with the reason as a tag."""
        if isinstance(error, SupersededError):
            raise error
        log_queued(self.owned_id(), self.offline_queue.entries())
        self.offline_queue.clear()
        for file in self.checkpoints:
            if file.exists():
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


def abandon() -> None:
    """Ends this process's active run as FAILED; where MLflow is away, in this process alone."""
    with suppress(MlflowException), short_timeouts():
        mlflow.end_run("FAILED")


def detach() -> None:
    """Leaves this process's active run without ending it, since another process continues it. MLflow's own
    functions that leave a run all end it."""
    active_runs = _active_run_stack.get()  # type: ignore[no-untyped-call]
    for run in active_runs:
        if monitor := run_id_to_system_metrics_monitor.pop(run.info.run_id, None):
            monitor.finish()
    active_runs.clear()


def origin_tags() -> dict[str, object]:
    """Tags with the git commit, the host and the process that a run comes from."""
    here = Path(__file__).parent
    commit = git(here, "rev-parse", "HEAD")
    return {
        "git_commit": commit or "unknown",
        "git_dirty": str(bool(git(here, "status", "--porcelain"))).lower() if commit else "unknown",
        "host": socket.gethostname(),
        "process": process_mark(os.getpid()),
    }


def git(folder: Path, *arguments: str) -> str:
    """The output of a git command in the folder; empty where there is no repository, or no git."""
    try:
        return subprocess.check_output(
            ["git", "-C", str(folder), *arguments], stderr=subprocess.DEVNULL, text=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def process_mark(pid: int) -> str:
    """HOST:PID:START of a process, which differs from that of a later process with the same pid."""
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"
