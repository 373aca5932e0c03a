"""Reads runs from MLflow: finds them by id or by tags, and reads their metrics and files."""

import gc
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import psutil
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pneumo.errors import InputError
from pneumo.runs.artifacts import place_of
from pneumo.runs.identity import configuration_hash
from pneumo.runs.logged import RESULTS, metrics_in, values_of
from pneumo.runs.server_errors import files_reached, passing_over_absent
from pneumo.runs.tracking import CHECKPOINTS, process_mark, run_url, store_name


@dataclass(frozen=True)
class RunRecord:
    """A run as MLflow stores it, with the last value of each metric."""

    run_id: str
    name: str
    address: str  # of its page in MLflow
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]  # and what follows from its settings and data, as `logged.values_of`
    status: str = "FINISHED"  # of MLflow: RUNNING, FINISHED, FAILED or KILLED
    started_ms: int = 0  # since 1970


def run_record(run: Run) -> RunRecord:
    """The record of an MLflow run."""
    info, data = run.info, run.data
    address = run_url(info.experiment_id, info.run_id)
    return RunRecord(
        info.run_id,
        info.run_name,
        address,
        data.tags,
        data.params,
        values_of(run),
        info.status,
        info.start_time,
    )


def search(conditions: str, order_by: str = "attributes.start_time DESC", **options: Any) -> list[Run]:
    """The runs of all experiments that satisfy `conditions`, in MLflow's filter syntax; by default the latest
    first. `options` are those of mlflow.search_runs."""
    options = {"search_all_experiments": True, **options}
    with without_garbage_collection():
        runs: list[Run] = mlflow.search_runs(
            filter_string=conditions, order_by=[order_by], output_format="list", **options
        )
    return runs


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Inside the block, objects in cycles are not freed. Looking for them takes two thirds of the time in
    which MLflow makes its objects of hundreds of runs, none of which is garbage yet."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def trainings(*conditions: str, **options: Any) -> list[RunRecord]:
    """The training runs of all experiments that satisfy the conditions, the latest first: neither parents of
    studies nor ensembles. See `search` for `options`."""
    every = " and ".join((f"tags.{CHECKPOINTS} != ''", *conditions))
    return [run_record(run) for run in search(every, **options)]


def runs_of_experiments() -> list[RunRecord]:
    """Finished runs that were started with experiment=NAME, the latest first."""
    conditions = "attributes.status = 'FINISHED' and tags.overrides LIKE '%experiment=%'"
    return [run_record(run) for run in search(conditions)]


def find_run(run_id: str) -> Run:
    """The MLflow run of this id. InputError: it does not exist."""
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(f"MLflow at {store_name()} has no run {run_id}") from None


def data_identity(tags: Mapping[str, str]) -> str:
    """The data identity of the run with these tags: a hash of its images, labels, lesions and patients; for
    runs of older versions, which lack it, one of the image ids and their split."""
    return tags.get("data_identity") or f"0-{tags.get('split_hash', '?')}"


def split_number(run: RunRecord, name: str) -> int | None:
    """A size of a run's split, such as val_images or val_positives; None if it is not known."""
    value = run.metrics.get(f"split/{name}")
    return None if value is None else int(value)


def test_evaluations_of_others(test_identity: str, run_ids: Collection[str]) -> tuple[int, int]:
    """How often the same test images have been evaluated through runs other than these, and through how many
    runs."""
    runs = search(f"tags.test_identity = '{test_identity}'")
    counts = [test_evaluations_of(run) for run in runs if run.info.run_id not in run_ids]
    return sum(counts), sum(count > 0 for count in counts)


def test_evaluations_of(run: Run) -> int:
    """How often the test split of a run has been evaluated through it, including once by the training."""
    by_training = run.data.params.get("fit.test") == "True" and run.info.status == "FINISHED"
    return int(run.data.tags.get("test_evaluations", by_training))


def run_of_trial(parent: str, number: int) -> str | None:
    """The id of the run of a trial, whose parent is the run of the trial's study; None if there is none."""
    return first_id(
        search(f"tags.`mlflow.parentRunId` = '{parent}' and tags.trial = '{number}'", max_results=1)
    )


def first_id(runs: list[Run]) -> str | None:
    return str(runs[0].info.run_id) if runs else None


def run_name(run_id: str) -> str:
    """The name of a run."""
    return str(find_run(run_id).info.run_name)


def metrics_of(run_id: str) -> dict[str, float]:
    """The last value of each metric of a run, by name: those in MLflow, those in its results.json, and what
    follows from its settings and data."""
    values = values_of(find_run(run_id))
    try:
        return {**metrics_in(read_text(run_id, RESULTS)), **values}
    except InputError:  # it did not finish, or an older version logged all of them to MLflow
        return values


def with_results(run: RunRecord) -> RunRecord:
    """The same record with all metrics of `metrics_of`; the record of a search lacks those in its files."""
    return replace(run, metrics=metrics_of(run.run_id))


def metric_history(run_id: str, metric: str) -> dict[int, float]:
    """The values of a metric by step."""
    return {one.step: one.value for one in mlflow.MlflowClient().get_metric_history(run_id, metric)}


def read_text(run_id: str, path: str) -> str:
    """The content of a text file among a run's artifacts. InputError: the run has no such file.
    FilesError: it cannot be read now."""
    for place in dict.fromkeys((place_of(path), path)):  # older versions had no folders
        with passing_over_absent():
            text: str = mlflow.artifacts.load_text(f"runs:/{run_id}/{place}")
            return text
    raise InputError(f"Run {run_id} has no {path}: its files are gone, or pneumo did not write it")


def has_file(run_id: str, path: str) -> bool:
    """Whether a run has this file at the top of its artifacts."""
    with files_reached():
        return any(file.path == path for file in mlflow.MlflowClient().list_artifacts(run_id))


def finished_run(tags: Mapping[str, object]) -> str | None:
    """The id of the latest finished run of the active experiment with all these tags, if there is one."""
    conditions = [
        *(f"tags.`{name}` = '{value}'" for name, value in tags.items()),
        "attributes.status = 'FINISHED'",
    ]
    return first_id(search(" and ".join(conditions), search_all_experiments=False, max_results=1))


def interrupted_runs(
    config_hash: str, parameters: Mapping[str, object], warn: Callable[[str], None]
) -> Iterator[str]:
    """The ids of the runs of this configuration in the active experiment that have a checkpoint, did not
    finish and are not running, the latest first. Runs of before the hash was computed as it is now are
    recognised by their parameters. `warn` is called with a message for each run of which it cannot be told
    whether it is running."""
    from pneumo.runs.checkpoint import LAST  # imports torch, which a run is found without

    for run in search("attributes.status != 'FINISHED'", search_all_experiments=False):
        tags = run.data.tags
        is_new = "data_identity" in tags
        if not (tags.get("config_hash") == config_hash if is_new else same_parameters(run, parameters)):
            continue
        mark, run_id = tags.get("process", "?:0:0"), str(run.info.run_id)
        running = run.info.status == "RUNNING" and is_process_running(mark)
        if not running and find_checkpoint(run, LAST):
            yield run_id
        elif running and (host := host_of(mark)) not in ("?", socket.gethostname()):
            warn(
                f"resume=auto does not continue run {run_id}, which may still be running on {host}; if it is "
                f"not, resume={run_id} does"
            )


def same_parameters(run: Run, parameters: Mapping[str, object]) -> bool:
    """Whether a run is a training with these values of the parameters that it has. A parameter that a later
    version added is ignored: its default keeps the earlier behaviour."""
    logged = run.data.params
    shared = parameters.keys() & logged.keys()
    then, now = (
        configuration_hash({name: values[name] for name in shared}) for values in (logged, parameters)
    )
    return CHECKPOINTS in run.data.tags and then == now


def is_process_running(mark: str) -> bool:
    """Whether the process of this mark, of `process_mark`, exists; one on another host is assumed to."""
    if host_of(mark) != socket.gethostname():
        return True
    pid = mark.rsplit(":", 2)[1]
    return psutil.pid_exists(int(pid)) and process_mark(int(pid)) == mark


def host_of(mark: str) -> str:
    """The host of a process by its mark."""
    return mark.rsplit(":", 2)[0]


def find_checkpoint(run: Run, file: str) -> Path | None:
    """The path of a run's checkpoint: where it was written or, if it is not there or may not be read,
    downloaded from its artifacts to a folder that this process removes at its end; None if neither has it.
    FilesError: they cannot be read now."""
    written = Path(run.data.tags.get("checkpoints", "")) / file
    if os.path.isfile(written) and os.access(written, os.R_OK):  # noqa: PTH113, is_file raises in a closed folder
        return written
    with passing_over_absent():
        of_run = Path(downloads().name, run.info.run_id)
        of_run.mkdir(exist_ok=True)
        path = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=f"{CHECKPOINTS}/{file}", dst_path=str(of_run)
        )
        return Path(path)
    return None


@cache
def downloads() -> "TemporaryDirectory[str]":
    """The folder of what this process downloads."""
    return TemporaryDirectory(prefix="pneumo-")


def is_downloaded(path: Path) -> bool:
    """Whether `find_checkpoint` has downloaded this file."""
    return Path(downloads().name) in path.parents


def checkpoint_file(run_id: str, name: str) -> Path:
    """The path of a run's checkpoint. InputError: there is none, or another run has overwritten it."""
    from pneumo.runs import checkpoint  # imports torch, which a run is found without

    path = find_checkpoint(find_run(run_id), name)
    if path is None:
        raise InputError(f"Run {run_id} has no {name}: it never finished an epoch, or its files are gone")
    if (owner := checkpoint.read(path)["run_id"]) != run_id:
        raise InputError(f"{path} belongs to another run, {owner}, which has overwritten it")
    return path
