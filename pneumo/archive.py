"""Runs that are in MLflow already, looked up."""

import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pneumo.checkpoint import BEST, LAST
from pneumo.errors import InputError
from pneumo.tracking import CHECKPOINTS, address_of, place, process_mark


@dataclass(frozen=True)
class Logged:
    """A run as MLflow has it; `figures` are the last values of its metrics."""

    run_id: str
    name: str
    address: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    figures: Mapping[str, float]


def logged(run: Run) -> Logged:
    info, data = run.info, run.data
    address = address_of(info.experiment_id, info.run_id)
    return Logged(info.run_id, info.run_name, address, data.tags, data.params, data.metrics)


def runs_of_experiments() -> list[Logged]:
    """Finished runs that were typed with an experiment=NAME, the latest first."""
    found: list[Run] = mlflow.search_runs(
        filter_string="attributes.status = 'FINISHED' and tags.overrides LIKE '%experiment=%'",
        search_all_experiments=True,
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    return [logged(run) for run in found]


def find_run(run_id: str) -> Run:
    """InputError: there is none."""
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(f"MLflow at {place()} has no run {run_id}") from None


def best_run() -> str:
    """The id of the finished run with the highest validation AUROC. InputError: there is none."""
    found: list[Run] = mlflow.search_runs(
        filter_string="attributes.status = 'FINISHED' and metrics.`best/val_auroc` > 0",
        search_all_experiments=True,
        order_by=["metrics.`best/val_auroc` DESC"],
        output_format="list",
    )
    trainings = [run for run in found if CHECKPOINTS in run.data.tags]
    if not trainings:
        raise InputError(f"MLflow at {place()} has no finished run: train one first")
    return str(trainings[0].info.run_id)


def run_of_trial(study: str, number: int) -> str | None:
    """The id of the run that was begun for it."""
    found: list[Run] = mlflow.search_runs(
        filter_string=f"tags.study = '{study}' and tags.trial = '{number}'",
        search_all_experiments=True,
        max_results=1,
        output_format="list",
    )
    return str(found[0].info.run_id) if found else None


def name_of(run_id: str) -> str:
    return str(find_run(run_id).info.run_name)


def figures_of(run_id: str) -> dict[str, float]:
    """The last value of every metric."""
    return dict(find_run(run_id).data.metrics)


def epochs_of(run_id: str, metric: str) -> dict[int, float]:
    history = mlflow.MlflowClient().get_metric_history(run_id, metric)
    return {value.step: value.value for value in history}


def text_of(run_id: str, path: str) -> str:
    """InputError: the run has no such file."""
    try:
        text: str = mlflow.artifacts.load_text(f"runs:/{run_id}/{path}")
    except (MlflowException, OSError):
        raise InputError(
            f"Run {run_id} has no {path}: its files are gone, or it is not a run of ours"
        ) from None
    return text


def has_file(run_id: str, path: str) -> bool:
    return any(file.path == path for file in mlflow.MlflowClient().list_artifacts(run_id))


def link(run_id: str) -> str:
    """Of a run, from within MLflow's pages."""
    return f"#/experiments/{mlflow.get_run(run_id).info.experiment_id}/runs/{run_id}"


def finished_run(tags: Mapping[str, object]) -> str | None:
    """The id of a finished run with all these tags."""
    named = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found: list[Run] = mlflow.search_runs(
        filter_string=f"{named} and attributes.status = 'FINISHED'", max_results=1, output_format="list"
    )
    return str(found[0].info.run_id) if found else None


def interrupted_run(config_hash: str) -> str | None:
    """The id of the latest run of this configuration that has a checkpoint, did not finish and is not
    running now."""
    found: list[Run] = mlflow.search_runs(
        filter_string=f"tags.config_hash = '{config_hash}' and attributes.status != 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    for run in found:
        running = run.info.status == "RUNNING" and still_runs(run.data.tags.get("process", "?:0:0"))
        if not running and checkpoint_of(run, LAST):
            return str(run.info.run_id)
    return None


def still_runs(mark: str) -> bool:
    """Whether the process of this mark lives; one on another host is taken to."""
    host, pid, _ = mark.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    return psutil.pid_exists(int(pid)) and process_mark(int(pid)) == mark


def checkpoint_of(run: Run, file: str) -> Path | None:
    """A checkpoint of a run: where it was written, if that is here, else fetched from its artifacts."""
    written = Path(run.data.tags.get("checkpoints", "")) / file
    if written.is_file():
        return written
    try:
        path = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=f"{CHECKPOINTS}/{file}", dst_path=tempfile.mkdtemp()
        )
    except (MlflowException, OSError):
        return None
    return Path(path)


def best_checkpoint(run_id: str) -> Path:
    """InputError: no such run, or it never finished an epoch."""
    path = checkpoint_of(find_run(run_id), BEST)
    if path is None:
        raise InputError(f"Run {run_id} has no {BEST}: it never finished an epoch, or its files are gone")
    return path
