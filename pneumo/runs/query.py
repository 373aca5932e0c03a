"""Runs that are in MLflow already, looked up."""

import socket
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pneumo.errors import InputError, listed
from pneumo.runs import checkpoint
from pneumo.runs.checkpoint import LAST
from pneumo.runs.identity import configuration_hash
from pneumo.runs.tracking import CHECKPOINTS, process_mark, run_url, store_name

KNOWN_LEAKS = (  # beginnings of the tag leak_risk; what is only a risk, as unknown patients are, is none
    *("image split", "patients shared by the column", "judged on its training images", "pretrained on"),
)
SHORTEST_PREFIX = 4  # of a data identity


@dataclass(frozen=True)
class RunRecord:
    """A run as MLflow has it; `figures` are the last values of its metrics."""

    run_id: str
    name: str
    address: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]


def run_record(run: Run) -> RunRecord:
    info, data = run.info, run.data
    address = run_url(info.experiment_id, info.run_id)
    return RunRecord(info.run_id, info.run_name, address, data.tags, data.params, data.metrics)


def runs_of_experiments() -> list[RunRecord]:
    """Finished runs that were typed with an experiment=NAME, the latest first."""
    found: list[Run] = mlflow.search_runs(
        filter_string="attributes.status = 'FINISHED' and tags.overrides LIKE '%experiment=%'",
        search_all_experiments=True,
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    return [run_record(run) for run in found]


def find_run(run_id: str) -> Run:
    """InputError: there is none."""
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(f"MLflow at {store_name()} has no run {run_id}") from None


def best_run(among: str | None = None) -> str:
    """The id of the run with the highest validation AUROC of those that can be compared by it: finished, not
    of a few images, without a known leak, and all of the same data. `among`: a name of data (phantom), the
    first digits of a data identity, or a study's name or id. InputError: there is none, or there are runs of
    several data sets."""
    found: list[Run] = mlflow.search_runs(
        filter_string="attributes.status = 'FINISHED' and metrics.`best/val_auroc` > 0",
        search_all_experiments=True,
        order_by=["metrics.`best/val_auroc` DESC"],
        output_format="list",
    )
    of = f" of {among}" if among else ""
    trainings = [
        run for run in found if CHECKPOINTS in run.data.tags and (among is None or belongs_to(run, among))
    ]
    if not trainings:
        raise InputError(f"MLflow at {store_name()} has no finished run{of}: train one first")
    competing = [run for run in trainings if is_comparable(run)]
    if not competing:
        raise InputError(
            f"MLflow at {store_name()} has no finished run{of} that best could be: all {len(trainings)} are "
            "of a few images (debug=, fit.few_images) or leak; name one by its id"
        )
    best_of: dict[str, Run] = {}
    for run in competing:
        best_of.setdefault(data_identity(run.data.tags), run)
    if len(best_of) > 1:
        raise InputError(
            listed(
                f"best: there are runs of {len(best_of)} data sets, which cannot be compared; name one:",
                [f"best@{key[:10]}  {summary_line(run)}" for key, run in best_of.items()],
            )
        )
    return str(competing[0].info.run_id)


def is_comparable(run: Run) -> bool:
    """Whether a run's validation AUROC says what it is worth: it was trained and judged on all of its data,
    and no image or patient is known to lie on both sides."""
    tags, parameters = run.data.tags, run.data.params
    return (
        parameters.get("fit.few_images", "None") == "None"
        and "debug=" not in tags.get("overrides", "")
        and not any(one.startswith(KNOWN_LEAKS) for one in tags.get("leak_risk", "none").split("; "))
        and "threshold" in run.data.metrics
    )


def belongs_to(run: Run, among: str) -> bool:
    tags = run.data.tags
    return among in (tags.get("data"), tags.get("study"), tags.get("study_id")) or (
        len(among) >= SHORTEST_PREFIX and data_identity(tags).startswith(among)
    )


def data_identity(tags: Mapping[str, str]) -> str:
    """Of the images, labels, lesions and patients that the run of these tags is of; of an older run, which
    has none, of its image ids and their split."""
    return tags.get("data_identity") or f"0-{tags.get('split_hash', '?')}"


def summary_line(run: Run) -> str:
    """What a run is, where one has to be chosen."""
    images = sum(int(run.data.metrics.get(f"split/{split}_images", 0)) for split in ("train", "val", "test"))
    return (
        f"{run.data.tags.get('data', '?')}, {images:,} images: {run.info.run_name}, "
        f"val AUROC {run.data.metrics['best/val_auroc']:.3f}"
    )


def test_evaluations_of_others(test_identity: str, run_ids: Collection[str]) -> tuple[int, int]:
    """How often the same test images have been looked at through runs other than these, and through how
    many."""
    found: list[Run] = mlflow.search_runs(
        filter_string=f"tags.test_identity = '{test_identity}'",
        search_all_experiments=True,
        output_format="list",
    )
    looks = [test_evaluations_of(run) for run in found if run.info.run_id not in run_ids]
    return sum(looks), sum(look > 0 for look in looks)


def test_evaluations_of(run: Run) -> int:
    """How often a run's test split has been looked at through it: by its training, too, once it ended."""
    at_its_end = run.data.params.get("fit.test") == "True" and run.info.status == "FINISHED"
    return int(run.data.tags.get("test_evaluations", at_its_end))


def run_of_trial(parent: str, number: int) -> str | None:
    """The id of the run that was begun for it under its study's run, which no other study has."""
    found: list[Run] = mlflow.search_runs(
        filter_string=f"tags.`mlflow.parentRunId` = '{parent}' and tags.trial = '{number}'",
        search_all_experiments=True,
        max_results=1,
        output_format="list",
    )
    return str(found[0].info.run_id) if found else None


def run_name(run_id: str) -> str:
    return str(find_run(run_id).info.run_name)


def metrics_of(run_id: str) -> dict[str, float]:
    """The last value of every metric."""
    return dict(find_run(run_id).data.metrics)


def metric_history(run_id: str, metric: str) -> dict[int, float]:
    history = mlflow.MlflowClient().get_metric_history(run_id, metric)
    return {value.step: value.value for value in history}


def read_text(run_id: str, path: str) -> str:
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


def run_link(run_id: str) -> str:
    """Of a run, from within MLflow's pages."""
    return f"#/experiments/{mlflow.get_run(run_id).info.experiment_id}/runs/{run_id}"


def finished_run(tags: Mapping[str, object]) -> str | None:
    """The id of a finished run with all these tags."""
    named = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found: list[Run] = mlflow.search_runs(
        filter_string=f"{named} and attributes.status = 'FINISHED'", max_results=1, output_format="list"
    )
    return str(found[0].info.run_id) if found else None


def interrupted_runs(config_hash: str, parameters: Mapping[str, object]) -> Iterator[str]:
    """The ids of the runs of this configuration that have a checkpoint, did not finish and are not running
    now, the latest first. Runs of before configurations were hashed as now are known by their parameters."""
    found: list[Run] = mlflow.search_runs(
        filter_string="attributes.status != 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    for run in found:
        tags = run.data.tags
        is_new = "data_identity" in tags
        if not (tags.get("config_hash") == config_hash if is_new else same_parameters(run, parameters)):
            continue
        running = run.info.status == "RUNNING" and is_process_running(tags.get("process", "?:0:0"))
        if not running and find_checkpoint(run, LAST):
            yield str(run.info.run_id)


def same_parameters(run: Run, parameters: Mapping[str, object]) -> bool:
    """Of a training; a parameter that was added later does what was done before unless it is given."""
    logged = run.data.params
    shared = parameters.keys() & logged.keys()
    before, now = (
        configuration_hash({name: values[name] for name in shared}) for values in (logged, parameters)
    )
    return CHECKPOINTS in run.data.tags and before == now


def is_process_running(mark: str) -> bool:
    """Whether the process of this mark lives; one on another host is taken to."""
    host, pid, _ = mark.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    return psutil.pid_exists(int(pid)) and process_mark(int(pid)) == mark


def find_checkpoint(run: Run, file: str) -> Path | None:
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


def checkpoint_file(run_id: str, name: str) -> Path:
    """A checkpoint of this run and no other. InputError: no such run, it never finished an epoch, or another
    run has written over the file."""
    path = find_checkpoint(find_run(run_id), name)
    if path is None:
        raise InputError(f"Run {run_id} has no {name}: it never finished an epoch, or its files are gone")
    if (found := checkpoint.read(path)["run_id"]) != run_id:
        raise InputError(f"{path} is of another run, {found}: it was written over")
    return path
