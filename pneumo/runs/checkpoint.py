"""Checkpoint files of a run: `last.pt`, from which training resumes, and `best.pt`, the weights of the best
epoch. Each is written whole or not at all."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pneumo.components.weights import read_tensors
from pneumo.data.atomic import atomic_path, remove_leftovers
from pneumo.errors import InputError, listed
from pneumo.runs import identity
from pneumo.runs.callback import RunCallback
from pneumo.runs.identity import DatasetIdentity, SeenImages
from pneumo.training.state import EpochReport, TrainState

LAST, BEST = "last.pt", "best.pt"
FORMAT = 1  # checkpoints without a number are older and do not record the images of their run


class CheckpointWriter:
    """Writes the last and the best state of one run to a folder."""

    def __init__(
        self,
        folder: Path,
        run_id: str,
        config: dict[str, Any],
        images: DatasetIdentity,
        split_hash: str,
        n_processes: int,
        seen_before: SeenImages | None,
        callback: RunCallback,
    ):
        """`config` is the identity of the configuration; `seen_before` are the images on which the weights
        were trained before this run, None where they are unknown."""
        folder.mkdir(parents=True, exist_ok=True)
        self.files = self.last, self.best = folder / LAST, folder / BEST
        for file in self.files:
            remove_leftovers(file)
        self._ensure_owned = callback.ensure_owned
        self._origin = {
            "format": FORMAT,
            "config": config,
            "split_hash": split_hash,
            "processes": n_processes,
            "run_id": run_id,
            "study_id": callback.study_id,
            "images": images.state(),
            **({"seen": seen_before.and_of(images).state()} if seen_before else {}),
        }

    def save_epoch(self, report: EpochReport, train_state: TrainState) -> None:
        """Writes `last.pt` and, where the epoch is the best so far, `best.pt`."""
        if report.is_best:
            weights = train_state.evaluated.state_dict()
            write({"model": weights, "epoch": report.epoch, **self._origin}, self.best, self._ensure_owned)
        self.save(train_state)

    def save_beginning(self, train_state: TrainState) -> None:
        """Writes `last.pt` at the beginning of a second attempt, and removes the best weights of the first.
        A run that is killed in between goes on with the second, and removes them then."""
        self.save(train_state)
        self.remove_best()

    def remove_best(self) -> None:
        """Removes `best.pt`, if it is there."""
        self._ensure_owned()
        self.best.unlink(missing_ok=True)

    def save(self, train_state: TrainState) -> None:
        """Writes `last.pt`, after or within an epoch."""
        origin = {**self._origin, "threads": torch.get_num_threads()}
        write({**train_state.state_dict(), **origin}, self.last, self._ensure_owned)

    def best_weights(self) -> dict[str, torch.Tensor]:
        """The weights of the best epoch, on the CPU."""
        weights: dict[str, torch.Tensor] = read(self.best)["model"]
        return weights


def write(state: dict[str, Any], path: Path, ensure_owned: Callable[[], None] = lambda: None) -> None:
    """Writes a checkpoint. The earlier file stays if that fails, as on a full disk (OSError), or if
    `ensure_owned` raises, which is called just before the file is replaced."""
    with atomic_path(path, ensure_owned) as beside, beside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            cause = error.__context__  # torch raises its own error while it handles the disk's
            raise (cause if isinstance(cause, OSError) else error) from None


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; no code in the file is executed. InputError: it is not a
    checkpoint of a pneumo run, or a later version wrote it."""
    state = read_tensors(path)
    if not is_ours(state):
        raise InputError(f"{path} is not a checkpoint of a pneumo run")
    if state.get("format", 0) > FORMAT:
        raise InputError(
            f"{path} has the checkpoint format {state['format']}, of a later version of pneumo; "
            f"this version reads formats up to {FORMAT}"
        )
    return state


def is_ours(state: Mapping[str, Any]) -> bool:
    """Whether pneumo wrote a checkpoint, rather than another program."""
    return {"model", "config", "run_id"} <= state.keys()


def images_of(state: Mapping[str, Any]) -> DatasetIdentity | None:
    """The images of the run that wrote a checkpoint; None in checkpoints too old to record them."""
    return DatasetIdentity.from_state(state["images"]) if "images" in state else None


def seen_of(state: Mapping[str, Any]) -> SeenImages | None:
    """The images on which the weights of a checkpoint have been trained; None where they are not recorded."""
    return SeenImages.from_state(state["seen"]) if "seen" in state else None


def refuse_other_config(state: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    """Raises InputError, with the values that differ, if a checkpoint is of another configuration."""
    if differing := identity.differing(state["config"], config):
        raise InputError(listed(f"{path} cannot be resumed: its run had another configuration:", differing))


def refuse_other_images(
    state: Mapping[str, Any], images: DatasetIdentity, split_hash: str, path: Path
) -> None:
    """Raises InputError, with what differs, if the run of a checkpoint had other images, labels, lesions or
    patients, or another split of them."""
    then = images_of(state)
    differing = identity.differences(then, images) if then else []
    if not then and state["split_hash"] != split_hash:
        differing = ["the split differs; the checkpoint is too old to tell in what"]
    if differing:
        raise InputError(listed(f"{path} was trained on other data than the current ones:", differing))
