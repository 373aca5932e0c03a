"""Checkpoints: `last.pt` to go on from, `best.pt` to predict with. A file is whole or not there."""

import os
from pathlib import Path
from typing import Any

import torch

from pneumo.errors import InputError, listed
from pneumo.fit import EpochReport
from pneumo.training import Training
from pneumo.weights import read_tensors

LAST, BEST = "last.pt", "best.pt"


class Keeper:
    """Keeps the last and the best state of one run in a folder."""

    def __init__(self, folder: Path, config: dict[str, Any], split_hash: str, run_id: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.files = self.last, self.best = folder / LAST, folder / BEST
        for file in self.files:
            for half_written in folder.glob(f".{file.name}.*"):  # by a process that was killed
                half_written.unlink()
        self._origin = {"config": config, "split_hash": split_hash, "run_id": run_id}

    def offer(self, report: EpochReport, training: Training) -> None:
        if report.is_best:
            weights = training.evaluated.state_dict()
            write({"model": weights, "epoch": report.epoch, **self._origin}, self.best)
        self.keep(training)

    def keep(self, training: Training) -> None:
        """Also within an epoch."""
        origin = {**self._origin, "threads": torch.get_num_threads()}
        write({**training.state_dict(), **origin}, self.last)

    def best_weights(self) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = read(self.best)["model"]
        return weights


def write(state: dict[str, Any], path: Path) -> None:
    """Beside the place first, then moved there in one step. OSError: the disk is full, say; what was there
    before stays."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch hides it behind its own
        if not isinstance(cause, OSError):
            raise
        raise OSError(f"{path} cannot be written ({cause.strerror}); the one before is whole") from None
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Onto the CPU; never executes what the file says. InputError: it is not a checkpoint of ours."""
    state = read_tensors(path)
    if not {"model", "config", "run_id"} <= state.keys():
        raise InputError(f"{path} is not a checkpoint of a run of ours")
    return state


def refuse_other_config(state: dict[str, Any], config: dict[str, Any], path: Path) -> None:
    """InputError: the checkpoint was made under another configuration; names what differs."""
    before, now = state["config"], config
    differing = [
        f"{name}: then {before.get(name, 'not there')}, now {now.get(name, 'not there')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise InputError(listed(f"{path} cannot be resumed, its run was configured otherwise:", differing))
