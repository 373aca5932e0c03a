"""Runs written to MLflow; `archive` reads them. No other room knows it."""

import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import mlflow
import psutil
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pneumo.errors import AwayError, PrunedError

SYSTEM_METRICS_SECONDS = 5
CHECKPOINTS = "checkpoints"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
MlflowError = MlflowException  # what a call raises when MLflow cannot be reached any more


def connect(experiment: str | None = None) -> None:
    """MLflow's own default store in the working directory, or MLFLOW_TRACKING_URI, and the experiment that
    new runs go to; both made if need be. InputError: it cannot be reached."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault(RETRIES, "5")  # a server that is away is waited for about a minute
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    here = Path.cwd()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    local = given is None
    lock = FileLock(here / "mlflow.db.lock") if local else nullcontext()
    with lock:  # two first migrations at once break the database
        mlflow.set_tracking_uri(given or f"sqlite:///{here / 'mlflow.db'}")
        try:
            reached()
            if experiment is None:
                return
            if local and mlflow.get_experiment_by_name(experiment) is None:
                mlflow.create_experiment(experiment, artifact_location=(here / "mlruns").as_uri())
            mlflow.set_experiment(experiment)
        except MlflowException as error:
            raise away(error) from None


def reached() -> None:
    """MlflowException: it is not there; told at once, unlike later."""
    patient, os.environ[RETRIES] = os.environ[RETRIES], "1"
    try:
        mlflow.MlflowClient().search_experiments(max_results=1)
    finally:
        os.environ[RETRIES] = patient


def away(error: MlflowException) -> AwayError:
    """Says the last cause in the chain that MLflow tells in one long line."""
    line = without_password(str(error).splitlines()[0])
    causes: list[str] = re.findall(
        r"(?i:connection refused|timed out|name or service not known|unreachable)", line
    )
    return AwayError(f"MLflow at {place()} cannot be used: {causes[-1] if causes else line[:300]}")


def parent_run(experiment: str, name: str, tags: Mapping[str, object]) -> str:
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


def log_run(run_id: str, figures: Mapping[str, float]) -> None:
    Tracker(run_id, "").log(figures)


def keep_text(run_id: str, text: str, path: str) -> None:
    mlflow.MlflowClient().log_text(run_id, text, path)


def keep_figure(run_id: str, figure: Figure, path: str) -> None:
    mlflow.MlflowClient().log_figure(run_id, figure, path)


def reopen(run_id: str) -> None:
    """A run that had ended goes on."""
    mlflow.MlflowClient().update_run(run_id, status="RUNNING")


def end_run(run_id: str, status: str) -> None:
    """Of a run that another process began: FINISHED, FAILED or KILLED."""
    mlflow.MlflowClient().set_terminated(run_id, status)


def place() -> str:
    """Where runs go, as a person would name it, without a password."""
    uri: str = mlflow.get_tracking_uri()
    return without_password(uri.removeprefix(f"sqlite:///{Path.cwd()}/"))


def without_password(url: str) -> str:
    return re.sub("://[^/@]*@", "://", url)


@dataclass(frozen=True)
class Tracker:
    """One run under way."""

    run_id: str
    name: str

    @classmethod
    def start(
        cls,
        run_id: str | None,
        name: str | None,
        parameters: Mapping[str, object],
        tags: Mapping[str, object],
        parent: str | None = None,
    ) -> "Tracker":
        """A new run, under another one where `parent` is given, or the one of `run_id` again."""
        mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)  # type: ignore[no-untyped-call]
        run = mlflow.start_run(
            run_id=run_id,
            run_name=name,
            parent_run_id=None if run_id else parent,
            tags={key: str(value) for key, value in {**tags, **whereabouts()}.items()},  # never without them
            log_system_metrics=True,
        )
        tracker = cls(run.info.run_id, run.info.run_name)
        given = [Param(key, str(value)) for key, value in parameters.items()]
        for start in range(0, len(given), 100):  # MLflow's limit a call
            mlflow.MlflowClient().log_batch(tracker.run_id, params=given[start : start + 100])
        return tracker

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        """All in one call."""
        now = round(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in figures.items()]
        mlflow.MlflowClient().log_batch(self.run_id, metrics=metrics)

    def tag(self, **tags: object) -> None:
        mlflow.MlflowClient().log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def keep_text(self, text: str, path: str) -> None:
        mlflow.MlflowClient().log_text(self.run_id, text, path)

    def keep_files(self, files: Sequence[Path], folder: str) -> None:
        for file in files:
            mlflow.MlflowClient().log_artifact(self.run_id, str(file), folder)

    def keep_figure(self, figure: Figure, path: str) -> None:
        mlflow.MlflowClient().log_figure(self.run_id, figure, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """FINISHED, KILLED when it was told to stop, else FAILED with the reason."""
        if error is None:
            mlflow.end_run("FINISHED")
        elif isinstance(error, KeyboardInterrupt):
            mlflow.end_run("KILLED")
        elif isinstance(error, PrunedError):
            self.tag(pruned=error)
            mlflow.end_run("KILLED")
        else:
            self.tag(failure=f"{type(error).__name__}: {error}"[:500])
            mlflow.end_run("FAILED")

    def address(self) -> str:
        """How to open the run."""
        uri: str = mlflow.get_tracking_uri()
        if uri.startswith("http"):
            experiment = mlflow.get_run(self.run_id).info.experiment_id
            return f"{place().rstrip('/')}/#/experiments/{experiment}/runs/{self.run_id}"
        return f"mlflow ui, then open {self.name}"


def whereabouts() -> dict[str, object]:
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
