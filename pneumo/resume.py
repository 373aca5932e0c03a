"""What `resume=` means: a run to go on with, and its last checkpoint."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo import archive, checkpoint
from pneumo.errors import InputError
from pneumo.experiment import Experiment

RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Resumed:
    run_id: str
    folder: Path
    state: dict[str, Any]

    def refuse_other_split(self, split_hash: str) -> None:
        if self.state["split_hash"] != split_hash:
            raise InputError(f"{self.folder} was trained on another split: images or labels have changed")


def config_hash(experiment: Experiment) -> str:
    return hashlib.sha256(json.dumps(experiment.identity, sort_keys=True).encode()).hexdigest()[:12]


def resumed(experiment: Experiment) -> Resumed | None:
    """None: a fresh start. InputError: there is nothing to resume, or it was configured otherwise."""
    asked = experiment.resume
    if asked is None:
        return None
    if asked == "auto":
        if (run_id := archive.interrupted_run(config_hash(experiment))) is None:
            return None
    elif RUN_ID.fullmatch(asked):
        run_id = asked
    else:
        return from_file(experiment, Path(asked))
    path = archive.checkpoint_of(archive.find_run(run_id), checkpoint.LAST)
    if path is None:
        raise InputError(f"resume={run_id}: that run never finished an epoch, or its files are gone")
    return from_file(experiment, path)


def from_file(experiment: Experiment, path: Path) -> Resumed:
    state = checkpoint.read(path)
    if "optimizer" not in state:
        raise InputError(f"{path} holds weights alone; resume from the {checkpoint.LAST} beside it")
    checkpoint.refuse_other_config(state, experiment.identity, path)
    return Resumed(state["run_id"], path.parent, state)
