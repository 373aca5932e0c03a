"""Finds the checkpoint from which `resume=` continues a run."""

import shutil
from collections.abc import Callable, Mapping
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
    """The last checkpoint of a run: its path, its content, and the path of the weights of its best epoch,
    None if the run has not ended an epoch."""

    path: Path
    state: dict[str, Any]
    best: Path | None

    def folder(self, own: Path) -> Path:
        """The folder in which the run goes on: that of the checkpoint or, where that was downloaded, `own`.
        Files that are elsewhere are copied to it."""
        folder = self.path.parent
        if query.is_downloaded(self.path):
            folder = own
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path, folder / checkpoint.LAST)
        if self.best is not None and self.best.parent != folder:
            shutil.copyfile(self.best, folder / checkpoint.BEST)
        return folder

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
    InputError: there is none, it has only weights, it is of another configuration, or the weights of its best
    epoch are gone."""
    path = checkpoint_path(source, checkpoint.LAST)
    state = checkpoint.read(path)
    if "optimizer" not in state:
        raise InputError(f"{path} contains only weights; resume from the {checkpoint.LAST} beside it")
    checkpoint.refuse_other_config(state, experiment.identity, path)
    return ResumePoint(path, state, best_weights(path, state))


def best_weights(last: Path, state: Mapping[str, Any]) -> Path | None:
    """The path of the weights of the best epoch of a last checkpoint: beside it or, where they are not there,
    those of its run; None if no epoch has ended. InputError: its run does not have them."""
    if not state["history"]:
        return None
    beside = last.with_name(checkpoint.BEST)
    if beside.is_file():
        return beside
    try:
        of_run = query.checkpoint_file(state["run_id"], checkpoint.BEST)
        epoch, needed = checkpoint.read(of_run)["epoch"], state.get("best_epoch")
        if needed not in (None, epoch):  # older checkpoints do not know it
            raise InputError(
                f"that of its run, {of_run}, is of epoch {epoch}, and its best is epoch {needed}"
            )
    except AwayError:
        raise
    except InputError as error:
        raise InputError(f"{last} cannot be resumed without {checkpoint.BEST} beside it: {error}") from None
    return of_run
