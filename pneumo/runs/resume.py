"""Finds the checkpoint from which `resume=` continues a run."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo.errors import AwayError, InputError
from pneumo.runs import checkpoint, query
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import DatasetIdentity, configuration_hash
from pneumo.runs.run_name import RUN_ID


@dataclass(frozen=True)
class ResumePoint:
    """The last checkpoint of a run: its path and its content."""

    path: Path
    state: dict[str, Any]

    def folder(self, own: Path) -> Path:
        """The folder in which the run goes on: that of the checkpoint or, where that was downloaded, `own`,
        to which its files are copied."""
        if not query.is_downloaded(self.path):
            return self.path.parent
        own.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, own / checkpoint.LAST)
        best = query.find_checkpoint(query.find_run(self.state["run_id"]), checkpoint.BEST)
        if best is not None:  # it has ended an epoch
            shutil.copyfile(best, own / checkpoint.BEST)
        return own

    def refuse_other_processes(self, count: int) -> None:
        """InputError: another number of processes trained the run, so that its effective batch, its schedule
        and the rest of an epoch that it had begun would be others."""
        then = self.state.get("processes", count)  # older checkpoints have none
        if then != count:
            raise InputError(
                f"{self.path} cannot be resumed in another number of processes: {then} then, {count} now "
                f"(torchrun --nproc-per-node={then})"
            )

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
    none. `warn` is called with a message for each run that is not continued. AwayError: a server cannot be
    reached."""
    for run_id in query.interrupted_runs(config_hash(experiment), experiment.parameters, warn):
        try:
            point = resume_point(experiment, run_id)
            point.refuse_other_images(images, split_hash)
        except AwayError:
            raise
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
