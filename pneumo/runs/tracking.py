"""Runs written to MLflow; `archive` reads them. No other room knows it."""

import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

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

SYSTEM_METRICS_SECONDS = 5
CHECKPOINTS = "checkpoints"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
BRIEF = {RETRIES: "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}  # seconds
LOCAL_PAGES = "http://127.0.0.1:5000"  # where a bare `mlflow ui` serves
METRICS_A_CALL = 1000  # MLflow's limit
MlflowError = MlflowException  # what a call raises when MLflow cannot be reached any more


def connect(experiment: str | None = None) -> None:
    """MLflow's own default store in the working directory, or MLFLOW_TRACKING_URI, and the experiment that
    new runs go to; both made if need be. InputError: it cannot be reached."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault(RETRIES, "5")  # a server that is away is waited for about a minute
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # its thread tells of a server that is away by itself, with the password in the address
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    here = Path.cwd()
    given = without_credentials(os.environ.get(TRACKING))
    local = given is None
    lock = FileLock(here / "mlflow.db.lock") if local else nullcontext()
    with lock:  # two first migrations at once break the database
        mlflow.set_tracking_uri(given or f"sqlite:///{here / 'mlflow.db'}")
        try:
            ensure_reachable()
            if experiment is None:
                return
            if local and mlflow.get_experiment_by_name(experiment) is None:
                mlflow.create_experiment(experiment, artifact_location=(here / "mlruns").as_uri())
            mlflow.set_experiment(experiment)
        except MlflowException as error:
            raise unreachable(error) from None


def without_credentials(address: str | None) -> str | None:
    """Of a server: user and password go from the address to where MLflow also looks for them, so that no
    message of its own repeats them. InputError: where a password ends cannot be told."""
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


def ensure_reachable() -> None:
    """MlflowException: it is not there; told at once, unlike later."""
    with short_timeouts():
        mlflow.MlflowClient().search_experiments(max_results=1)


@contextmanager
def short_timeouts() -> Iterator[None]:
    """A server that is away is not waited for."""
    patient = {name: os.environ.get(name) for name in BRIEF}
    os.environ.update(BRIEF)
    try:
        yield
    finally:
        for name, value in patient.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def unreachable(error: MlflowException) -> AwayError:
    """Says the last cause in the chain that MLflow tells in one long line."""
    line = hidden(str(error).splitlines()[0])
    causes: list[str] = re.findall(
        r"(?i:connection refused|timed out|name or service not known|unreachable)", line
    )
    return AwayError(f"MLflow at {store_name()} cannot be used: {causes[-1] if causes else line[:300]}")


def create_parent_run(experiment: str, name: str, tags: Mapping[str, object]) -> str:
    """A run for others to lie under; its id."""
    run = mlflow.MlflowClient().create_run(
        mlflow.set_experiment(experiment).experiment_id,
        run_name=name,
        tags={key: str(value) for key, value in tags.items()},
    )
    return str(run.info.run_id)


def tag_run(run_id: str, **tags: object) -> None:
    """Also of a run that has ended."""
    mlflow.MlflowClient().log_batch(run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])


def log_run(run_id: str, metrics: Mapping[str, float]) -> None:
    log_queued(run_id, [queued_now(metrics)])


def queued_now(metrics: Mapping[str, float], step: int = 0) -> QueuedMetrics:
    return QueuedMetrics(
        {name: float(value) for name, value in metrics.items()}, step, round(time.time() * 1000)
    )


def log_queued(run_id: str, entries: Sequence[QueuedMetrics]) -> None:
    """In as few calls as can be. What a call that broke off had logged already is not logged twice."""
    metrics = [
        Metric(name, value, entry.at_ms, entry.step)
        for entry in entries
        for name, value in entry.metrics.items()
    ]
    for start in range(0, len(metrics), METRICS_A_CALL):
        mlflow.MlflowClient().log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])


def log_text(run_id: str, text: str, path: str) -> None:
    mlflow.MlflowClient().log_text(run_id, text, path)


def log_figure(run_id: str, figure: Figure, path: str) -> None:
    mlflow.MlflowClient().log_figure(run_id, figure, path)


def reopen_run(run_id: str) -> None:
    """A run that had ended goes on."""
    mlflow.MlflowClient().update_run(run_id, status="RUNNING")


def end_run(run_id: str, status: str) -> None:
    """Of a run that another process began: FINISHED, FAILED or KILLED."""
    mlflow.MlflowClient().set_terminated(run_id, status)


def store_name() -> str:
    """Where runs go, as a person would name it, without a password."""
    uri: str = mlflow.get_tracking_uri()
    return shown(uri.removeprefix(f"sqlite:///{Path.cwd()}/"))


def uses_server() -> bool:
    """By an MLflow server, rather than lying in a file."""
    return mlflow.get_tracking_uri().startswith("http")


def run_url(experiment_id: str, run_id: str) -> str:
    """Of a run's page on the MLflow server; else where `mlflow ui` will show it."""
    server = store_name().rstrip("/") if uses_server() else LOCAL_PAGES
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"


@dataclass(frozen=True)
class Tracker:
    """One run under way. Its figures may wait for MLflow to come back; nothing else does."""

    run_id: str
    name: str
    experiment_id: str
    offline_queue: OfflineQueue
    warn: Callable[[str], None]
    ensure_owned: Callable[[], None] = lambda: None  # see RunCallback
    checkpoints: list[Path] = field(default_factory=list)  # files that go into the run when it ends

    @classmethod
    def start(
        cls,
        run_id: str | None,
        name: str | None,
        parameters: Mapping[str, object],
        tags: Mapping[str, object],
        parent: str | None,
        offline_queue: OfflineQueue,
        warn: Callable[[str], None],
        ensure_owned: Callable[[], None] = lambda: None,
    ) -> "Tracker":
        """A new run, under another one where `parent` is given, or the one of `run_id` again, which is sent
        what waits in `unsent`. AwayError: MLflow cannot be reached any more."""
        mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)  # type: ignore[no-untyped-call]
        try:
            run = mlflow.start_run(
                run_id=run_id,
                run_name=name,
                parent_run_id=None if run_id else parent,
                tags={key: str(value) for key, value in {**tags, **origin_tags()}.items()},  # never without
                log_system_metrics=True,
            )
            given = [Param(key, str(value)) for key, value in parameters.items()]
            for start in range(0, len(given), 100):  # MLflow's limit a call
                mlflow.MlflowClient().log_batch(run.info.run_id, params=given[start : start + 100])
            log_queued(run.info.run_id, offline_queue.entries())
            offline_queue.clear()
        except MlflowException as error:
            abandon()
            raise unreachable(error) from None
        info = run.info
        return cls(info.run_id, info.run_name, info.experiment_id, offline_queue, warn, ensure_owned)

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Now, after all that waits; or kept to be sent by a later call, while MLflow is away."""
        self.ensure_owned()
        new, waiting = queued_now(metrics, step), self.offline_queue.entries()
        try:
            with short_timeouts():
                log_queued(self.run_id, [*waiting, new])
        except MlflowException as error:
            self.offline_queue.add(new)
            if not waiting:
                self.warn(
                    f"{unreachable(error)}; the run goes on, its metrics wait in {self.offline_queue.path}"
                )
            return
        self.offline_queue.clear()
        if waiting:
            self.warn(f"MLflow at {store_name()} has been sent what waited in {self.offline_queue.path}")

    def tag(self, **tags: object) -> None:
        self.ensure_owned()
        mlflow.MlflowClient().log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_text(self, text: str, path: str) -> None:
        self.ensure_owned()
        mlflow.MlflowClient().log_text(self.run_id, text, path)

    def log_artifact(self, file: Path, folder: str) -> None:
        self.ensure_owned()
        mlflow.MlflowClient().log_artifact(self.run_id, str(file), folder)

    def log_figure(self, figure: Figure, path: str) -> None:
        self.ensure_owned()
        mlflow.MlflowClient().log_figure(self.run_id, figure, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """FINISHED, KILLED when it was told to stop, else FAILED with the reason. Where MLflow is away by
        then, or its disk full, an error that says more than that is let through. A run that another process
        goes on with is left as it is."""
        waited = isinstance(error, MlflowException)
        try:
            with short_timeouts() if waited else nullcontext():
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
        if isinstance(error, SupersededError):
            raise error
        self.ensure_owned()
        log_queued(self.run_id, self.offline_queue.entries())
        self.offline_queue.clear()
        for file in self.checkpoints:
            if file.exists():
                self.log_artifact(file, CHECKPOINTS)
        if error is None:
            mlflow.end_run("FINISHED")
        elif isinstance(error, KeyboardInterrupt):
            mlflow.end_run("KILLED")
        elif isinstance(error, PrunedError):
            self.tag(pruned=error)
            mlflow.end_run("KILLED")
        else:
            self.tag(failure=hidden(f"{type(error).__name__}: {error}")[:500])
            mlflow.end_run("FAILED")

    def address(self) -> str:
        """How to open the run."""
        if uses_server():
            return run_url(self.experiment_id, self.run_id)
        return f"mlflow ui, then open {self.name}"


def abandon() -> None:
    """This process has no run under way any more, whether MLflow hears of it or not."""
    with suppress(MlflowException), short_timeouts():
        mlflow.end_run("FAILED")


def detach() -> None:
    """This process has no run under way any more, and MLflow does not hear of it: the run goes on elsewhere.
    MLflow's own ways to leave a run all end it."""
    under_way = _active_run_stack.get()  # type: ignore[no-untyped-call]
    for run in under_way:
        if monitor := run_id_to_system_metrics_monitor.pop(run.info.run_id, None):
            monitor.finish()
    under_way.clear()


def origin_tags() -> dict[str, object]:
    """Commit, host and process of this run."""
    here = Path(__file__).parent
    commit = git(here, "rev-parse", "HEAD")
    return {
        "git_commit": commit or "unknown",
        "git_dirty": str(bool(git(here, "status", "--porcelain"))).lower() if commit else "unknown",
        "host": socket.gethostname(),
        "process": process_mark(os.getpid()),
    }


def git(folder: Path, *words: str) -> str:
    """What git answers there; empty where there is no repository, or no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def process_mark(pid: int) -> str:
    """A process, not to be confused with a later one of the same number."""
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"
