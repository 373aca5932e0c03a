"""What `resume=` means: a run to go on with, and its last checkpoint."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo.errors import InputError
from pneumo.runs import checkpoint, query
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import DatasetIdentity, configuration_hash

RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ResumePoint:
    run_id: str
    folder: Path
    state: dict[str, Any]

    def refuse_other_images(self, images: DatasetIdentity, split_hash: str) -> None:
        """InputError: see `checkpoint.refuse_other_images`."""
        checkpoint.refuse_other_images(self.state, images, split_hash, self.folder / checkpoint.LAST)


def config_hash(experiment: Experiment) -> str:
    return configuration_hash(experiment.parameters)


def resume_named(experiment: Experiment) -> ResumePoint | None:
    """The run that `resume=` names, None where it names none; resume=auto needs the images to be known first.
    InputError: there is nothing to resume, or it was configured otherwise."""
    asked = experiment.resume
    if asked in (None, "auto"):
        return None
    assert asked is not None
    return from_run(experiment, asked) if RUN_ID.fullmatch(asked) else from_file(experiment, Path(asked))


def resume_latest(
    experiment: Experiment, images: DatasetIdentity, split_hash: str, warn: Callable[[str], None]
) -> ResumePoint | None:
    """The latest unfinished run of this configuration on these images; those on others are said and left."""
    for run_id in query.interrupted_runs(config_hash(experiment), experiment.parameters):
        found = from_run(experiment, run_id)
        try:
            found.refuse_other_images(images, split_hash)
        except InputError as error:
            warn(f"resume=auto leaves run {run_id}: {error}")
            continue
        return found
    return None


def from_run(experiment: Experiment, run_id: str) -> ResumePoint:
    return from_file(experiment, query.checkpoint_file(run_id, checkpoint.LAST))


def from_file(experiment: Experiment, path: Path) -> ResumePoint:
    state = checkpoint.read(path)
    if "optimizer" not in state:
        raise InputError(f"{path} holds weights alone; resume from the {checkpoint.LAST} beside it")
    checkpoint.refuse_other_config(state, experiment.identity, path)
    return ResumePoint(state["run_id"], path.parent, state)
