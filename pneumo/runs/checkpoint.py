"""Checkpoints: `last.pt` to go on from, `best.pt` to predict with. A file is whole or not there."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pneumo.components.weights import read_tensors
from pneumo.data.atomic import atomic_path, remove_leftovers
from pneumo.errors import InputError, listed
from pneumo.runs import identity
from pneumo.runs.identity import DatasetIdentity, SeenImages
from pneumo.training.state import EpochReport, TrainState

LAST, BEST = "last.pt", "best.pt"
FORMAT = 1  # 0, without a number: before checkpoints knew the images of their run


class CheckpointWriter:
    """Keeps the last and the best state of one run in a folder."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        split_hash: str,
        run_id: str,
        images: DatasetIdentity,
        seen_before: SeenImages | None,
        ensure_owned: Callable[[], None] = lambda: None,
        study_id: str | None = None,
    ):
        """`images`: those of the run; `seen_before`: what its weights had been trained on when it began, None
        where that is not known; `ensure_owned`: see `RunCallback`; `study_id`: of the run's study."""
        folder.mkdir(parents=True, exist_ok=True)
        self.files = self.last, self.best = folder / LAST, folder / BEST
        for file in self.files:
            remove_leftovers(file)
        self._ensure_owned = ensure_owned
        self._origin = {
            "format": FORMAT,
            "config": config,
            "split_hash": split_hash,
            "run_id": run_id,
            "study_id": study_id,
            "images": images.state(),
            **({"seen": seen_before.and_of(images).state()} if seen_before else {}),
        }

    def save_epoch(self, report: EpochReport, train_state: TrainState) -> None:
        if report.is_best:
            weights = train_state.evaluated.state_dict()
            write({"model": weights, "epoch": report.epoch, **self._origin}, self.best, self._ensure_owned)
        self.keep(train_state)

    def keep(self, train_state: TrainState) -> None:
        """Also within an epoch."""
        origin = {**self._origin, "threads": torch.get_num_threads()}
        write({**train_state.state_dict(), **origin}, self.last, self._ensure_owned)

    def best_weights(self) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = read(self.best)["model"]
        return weights


def write(state: dict[str, Any], path: Path, ensure_owned: Callable[[], None] = lambda: None) -> None:
    """Writes a checkpoint, whole or not at all, unless `ensure_owned` raises just before it takes its place.
    OSError: the disk is full, say; what was there before stays."""
    with atomic_path(path, ensure_owned) as beside, beside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            cause = error.__context__  # torch raises its own error while it handles the disk's
            raise (cause if isinstance(cause, OSError) else error) from None


def read(path: Path) -> dict[str, Any]:
    """Onto the CPU; never executes what the file says. InputError: it is not a checkpoint of ours, or a later
    version wrote it."""
    state = read_tensors(path)
    if not is_ours(state):
        raise InputError(f"{path} is not a checkpoint of a run of ours")
    if state.get("format", 0) > FORMAT:
        raise InputError(
            f"{path} has the checkpoint format {state['format']}, of a later version of pneumo; "
            f"this one reads up to {FORMAT}"
        )
    return state


def is_ours(state: Mapping[str, Any]) -> bool:
    """Rather than another program's weights."""
    return {"model", "config", "run_id"} <= state.keys()


def images_of(state: Mapping[str, Any]) -> DatasetIdentity | None:
    """The images of the run that wrote a checkpoint; None where that was before checkpoints knew them."""
    return DatasetIdentity.from_state(state["images"]) if "images" in state else None


def seen_of(state: Mapping[str, Any]) -> SeenImages | None:
    """What the weights of a checkpoint have been trained on; None where that is not known."""
    return SeenImages.from_state(state["seen"]) if "seen" in state else None


def refuse_other_config(state: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    """InputError: the checkpoint was made under another configuration; names what differs."""
    if differing := identity.differing(state["config"], config):
        raise InputError(listed(f"{path} cannot be resumed, its run was configured otherwise:", differing))


def refuse_other_images(
    state: Mapping[str, Any], images: DatasetIdentity, split_hash: str, path: Path
) -> None:
    """InputError: the checkpoint's run had other images, labels, lesions or patients, or another split of
    them; names what differs."""
    then = images_of(state)
    differing = identity.differences(then, images) if then else []
    if not then and state["split_hash"] != split_hash:
        differing = ["its split is another; it was written before checkpoints could say what has changed"]
    if differing:
        raise InputError(listed(f"{path} was trained on other data than there are now:", differing))
