"""A table of pictures that tests change between two commands, and runs on it."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Named
from PIL import Image

from pneumo.data import phantom
from pneumo.runs import query
from pneumo.runs.run import run

SIDE_PX = 64


class World:
    """A folder with pictures, masks and images.csv (image, patient, label, noise, mask, fold); what is
    changed in `table` is there once it is written."""

    def __init__(self, root: Path, n_images: int = 160, seed: int = 3):
        self.root = root
        (root / "png").mkdir(parents=True)
        studies = phantom.studies(n_images, seed)
        blocks = list(phantom.draw(studies, SIDE_PX, seed))
        pixels, masks = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
        self.table = pd.DataFrame(
            {
                "image": [f"png/{number:03}.png" for number in range(n_images)],
                "patient": studies["patient_id"].to_numpy(),
                "label": studies["label"].to_numpy(),
                "mask": [f"png/{n:03}_mask.png" if y else "" for n, y in enumerate(studies["label"])],
                "other": np.random.default_rng(0).permutation(studies["label"].to_numpy()),
            }
        )
        for name, picture in zip(self.table["image"], pixels, strict=True):
            Image.fromarray(picture).save(root / name, compress_level=0)  # all files are of one size
        for name, mask in zip(self.table["mask"], masks, strict=True):
            if name:
                Image.fromarray(mask).save(root / name)
        self.write()

    def write(self) -> None:
        self.table.to_csv(self.root / "images.csv", index=False)

    def overrides(self, *more: str) -> list[str]:
        return [
            "data=table",
            f"data.root={self.root}",
            "data.table=images.csv",
            "data.columns.patient=patient",
            "data.columns.mask=none",
            f"data.image_side_px={SIDE_PX}",
            *("model.width=4", "fit.epochs=1", "fit.pictures=false", "fit.batch_size=32"),
            *more,
        ]


@pytest.fixture
def world(workdir):
    return World(workdir / "data")


@pytest.fixture
def train(world, composed, workdir):
    """Overrides -> the id of a run on the world's data."""

    def make(*overrides, data=None):
        callback = Named()
        given = overrides if data else world.overrides(*overrides)
        folder = workdir / f"out-{len(list(workdir.glob('out-*')))}"
        run(composed(*given), folder, callback)
        return callback.run_id

    return make


def csv_of(run_id, path):
    return pd.read_csv(io.StringIO(query.read_text(run_id, path)))


def predictions_of(run_id, part):
    return csv_of(run_id, "predictions.csv").query("split == @part")


def images_of_split(world, run_id, part):
    """Ids of a run's training images: all that it neither validated nor tested on."""
    assert part == "train"
    return set(world.table["image"]) - set(csv_of(run_id, "predictions.csv")["image_id"])
