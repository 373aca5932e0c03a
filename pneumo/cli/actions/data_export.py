"""`pneumo data export FOLDER [data=...]`: writes a data set in one of the layouts that pneumo reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pneumo.cli.actions.data_words import source_of, train_command
from pneumo.data.dataset import load_dataset, load_unsplit
from pneumo.data.export import export, need_empty
from pneumo.display.console import Terminal
from pneumo.errors import hydra_word


def export_to(folder: Path, overrides: Sequence[str], layout: str) -> dict[str, Any]:
    """Writes the data set that the overrides name, and prints the command that trains on it. InputError: the
    folder is not empty, or the data set cannot be read."""
    folder, terminal = folder.expanduser(), Terminal()
    need_empty(folder)
    source = source_of(overrides, "export")
    load = load_dataset if layout == "siim_png" else load_unsplit  # it divides its images in two tables
    with terminal.progress("data") as advance:
        dataset = load(source, advance)
    with terminal.progress("written") as advance:
        settings = export(dataset, folder, layout, advance)
    n_images, n_masks = len(dataset.cohort), int(dataset.store.has_mask.sum())
    side = source.image_side_px
    given = {"root": str(folder), **settings, "image_side_px": side}
    words = [f"data={layout}", *(hydra_word(f"data.{key}", value) for key, value in given.items())]
    terminal.say("written", f"{n_images:,} images and {n_masks:,} masks of {side} px in {folder}")
    terminal.say("check", f"pneumo data check {' '.join(words)}")
    terminal.say("train", train_command(words))
    return {"folder": str(folder), "layout": layout, "images": n_images, "masks": n_masks, "overrides": words}
