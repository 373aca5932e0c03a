"""Finds the checkpoint from which `resume=` continues a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo.errors import InputError
from pneumo.runs import checkpoint, query
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import DatasetIdentity, configuration_hash
from pneumo.runs.run_name import RUN_ID


@dataclass(frozen=True)
class ResumePoint:
    """The last checkpoint of a run: its path and its content."""

    path: Path
    state: dict[str, Any]

    def refuse_other_images(self, images: DatasetIdentity, split_hash: str) -> None:
        """See `checkpoint.refuse_other_images`."""
        checkpoint.refuse_other_images(self.state, images, split_hash, self.path)


def config_hash(experiment: Experiment) -> str:
    """12 hexadecimal digits that are equal for equal configurations."""
    return configuration_hash(experiment.parameters)


def checkpoint_path(source: str, name: str) -> Path:
    """The path of a checkpoint that is given by its path or by the id of its run, of which `name` is then the
    file. InputError: there is no such run, or it has no such checkpoint."""
    return query.checkpoint_file(source, name) if RUN_ID.fullmatch(source) else Path(source)


def resume_named(experiment: Experiment) -> ResumePoint | None:
    """The checkpoint that `resume=` names by a run id or a path; None for null and for `auto`.
    InputError: it cannot be resumed."""
    return None if experiment.resume in (None, "auto") else resume_point(experiment, str(experiment.resume))


def resume_latest(
    experiment: Experiment, images: DatasetIdentity, split_hash: str, warn: Callable[[str], None]
) -> ResumePoint | None:
    """The checkpoint of the latest unfinished run of this configuration on these images; None if there is
    none. `warn` is called with a message for each run on other images."""
    for run_id in query.interrupted_runs(config_hash(experiment), experiment.parameters):
        point = resume_point(experiment, run_id)
        try:
            point.refuse_other_images(images, split_hash)
        except InputError as error:
            warn(f"resume=auto does not continue run {run_id}: {error}")
            continue
        return point
    return None


def resume_point(experiment: Experiment, source: str) -> ResumePoint:
    """The last checkpoint given by its path or by the id of its run.
    InputError: there is none, it has only weights, or it is of another configuration."""
    path = checkpoint_path(source, checkpoint.LAST)
    state = checkpoint.read(path)
    if "optimizer" not in state:
        raise InputError(f"{path} contains only weights; resume from the {checkpoint.LAST} beside it")
    checkpoint.refuse_other_config(state, experiment.identity, path)
    return ResumePoint(path, state)
