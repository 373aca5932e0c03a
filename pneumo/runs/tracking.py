"""The connection to MLflow, and what is written to a run by its id. `tracker` is the run that this process
trains; `query` reads runs."""

import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
import psutil
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException

from pneumo.display.address import LOCAL_DATABASES, TRACKING, hidden, parsed, shown
from pneumo.errors import AwayError, InputError
from pneumo.runs import mlflow_pages
from pneumo.runs.artifacts import place_of
from pneumo.runs.mlflow_pages import DESCRIPTION, SHARED_VIEW, VIEW_TAG, run_path, runs_path
from pneumo.runs.offline import QueuedMetrics
from pneumo.runs.server_errors import cause_of, files_reached

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECKPOINTS = "checkpoints"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
BRIEF = {
    RETRIES: "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # which may ask for an hour
}
LOCAL_PAGES = "http://127.0.0.1:5000"  # where a bare `mlflow ui` serves
METRICS_A_CALL = 1000  # MLflow's limit
MlflowError = MlflowException  # what a call raises when MLflow cannot be reached any more


def connect(experiment: str | None = None) -> None:
    """Connects to MLFLOW_TRACKING_URI or, by default, to mlflow.db in the working directory, and makes
    `experiment` the one that new runs belong to. Both are created if they do not exist.
    AwayError: MLflow cannot be reached, or does not permit its user to train in that experiment."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault(RETRIES, "5")  # a server that is away is waited for about a minute
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # of what is raised as well
    # its thread logs that a server is away, with the password in the address
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    here = Path.cwd()
    given = without_credentials(os.environ.get(TRACKING))
    local = given is None
    lock = FileLock(here / "mlflow.db.lock") if local else nullcontext()
    with lock:  # two first migrations at once break the database
        if local:
            LOCAL_DATABASES.add(f"sqlite:///{here / 'mlflow.db'}")
            create_database(here / "mlflow.db")
        mlflow.set_tracking_uri(given or f"sqlite:///{here / 'mlflow.db'}")
        try:
            with short_timeouts():
                mlflow.MlflowClient().search_experiments(max_results=1)
            if experiment is None:
                return
            if local and mlflow.get_experiment_by_name(experiment) is None:
                mlflow.create_experiment(experiment, artifact_location=(here / "mlruns").as_uri())
            tag_experiment(mlflow.set_experiment(experiment))
        except MlflowException as error:
            raise unreachable(error) from None


def create_database(path: Path) -> None:
    """Makes a local MLflow database where there is none. It is made beside its place, since MLflow cannot use
    one of which a kill or a full disk has left a part. Needs the lock. InputError: it cannot be made."""
    if path.exists():
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        mlflow.MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
        partial.replace(path)
    except Exception as error:  # MLflow lets through what its database raises here
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"MLflow's database {path} cannot be made: {cause}") from None
    finally:
        partial.unlink(missing_ok=True)


def tag_experiment(experiment: Experiment) -> None:
    """Sets the tags that its pages need. Those that somebody has changed stay, but for pneumo's own view. A
    server is told that in any case, so that a user who must not write is refused before the data are read."""
    wanted = mlflow_pages.experiment_tags(experiment.experiment_id)
    for name, value in wanted.items():
        is_changed = experiment.tags.get(name) != value
        if name not in experiment.tags or (name == VIEW_TAG and (is_changed or uses_server())):
            mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, name, value)


def share_view(experiment_id: str, name: str, state: str) -> None:
    """Stores a view of an experiment's runs, of `mlflow_pages`, so that addresses can name it."""
    mlflow.MlflowClient().set_experiment_tag(experiment_id, f"{SHARED_VIEW}{name}", state)


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


def known_run(run_id: str | None) -> str | None:
    """The id of a run if MLflow has it; None if it does not, as after its store was emptied."""
    if run_id is None:
        return None
    try:
        mlflow.MlflowClient().get_run(run_id)
    except MlflowException as error:
        if not is_lost(error):
            raise
        return None
    return run_id


def is_lost(error: MlflowException) -> bool:
    """Whether MLflow answers, but does not have the run or experiment that it was asked for."""
    return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def unreachable(error: MlflowException) -> AwayError:
    """The error as one line that names the store and the cause, which may be that it has lost the run."""
    if is_lost(error):
        return AwayError(
            f"MLflow at {store_name()} does not have this run any more: its store was emptied or replaced"
        )
    cause = cause_of(error) or hidden(str(error).splitlines()[0])[:300]
    return AwayError(f"MLflow at {store_name()} cannot be used: {cause}")


def experiment_id(experiment: str) -> str:
    """The id of the experiment of this name, which new runs belong to from now on."""
    return str(mlflow.set_experiment(experiment).experiment_id)


def create_parent_run(experiment: str, name: str, tags: Mapping[str, object], description: str = "") -> str:
    """Creates a run that can be the parent of others, and returns its id. `description` is Markdown."""
    tags = {**tags, **({DESCRIPTION: description} if description else {})}
    run = mlflow.MlflowClient().create_run(
        experiment_id(experiment),
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


def log_dataset(run_id: str, name: str, digest: str, splits: Mapping[str, Mapping[str, float]]) -> None:
    """Names the data of a run: a data set of MLflow for each split, with the split as its context, the
    identity of all images as its digest, and the numbers of the split as its profile. Where another process
    names the same data at the same moment, MLflow inserts them twice, which its database refuses; the second
    time it finds them."""
    source = json.dumps({"data": name})
    datasets = {
        split: Dataset(f"{name}-{split}", digest, "pneumo", source, profile=json.dumps(numbers))
        for split, numbers in splits.items()
    }
    inputs = [DatasetInput(one, [InputTag("mlflow.data.context", split)]) for split, one in datasets.items()]
    try:
        mlflow.MlflowClient().log_inputs(run_id, inputs)
    except MlflowException as error:
        if not re.search("unique|duplicate", str(error), re.IGNORECASE):
            raise
        mlflow.MlflowClient().log_inputs(run_id, inputs)


def log_text(run_id: str, text: str, path: str) -> None:
    """Writes a text to a file among the run's artifacts, in the folder of files of this name."""
    with files_reached():
        mlflow.MlflowClient().log_text(run_id, text, place_of(path))


def log_figure(run_id: str, figure: "Figure", path: str) -> None:
    """Writes a plot to an image file, `path`, among the run's artifacts."""
    with files_reached():
        mlflow.MlflowClient().log_figure(run_id, figure, path)


def log_bytes(run_id: str, content: bytes, path: str) -> None:
    """Writes a file, `path`, among the run's artifacts."""
    folder, _, name = path.rpartition("/")
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / name
        file.write_bytes(content)
        log_file(run_id, file, folder or None)


def log_file(run_id: str, file: Path, folder: str | None) -> None:
    """Copies a file to a folder of the run's artifacts, or to their top."""
    with files_reached():
        mlflow.MlflowClient().log_artifact(run_id, str(file), folder)


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
    return f"{pages_address()}/#{run_path(experiment_id, run_id)}"


def runs_url(experiment_id: str) -> str:
    """The address of the table of an experiment's runs, with the columns of pneumo."""
    return f"{pages_address()}/#{runs_path(experiment_id)}"


def pages_address() -> str:
    """Where MLflow's pages are: on its server or, without a server, in a local `mlflow ui`."""
    return store_name().rstrip("/") if uses_server() else LOCAL_PAGES


def process_mark(pid: int) -> str:
    """HOST:PID:START of a process, which differs from that of a later process with the same pid."""
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"
