"""What only real files can show; they are found through PNEUMO_REALDATA and never copied."""

import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pneumo.data.cohort import Cohort, with_patients
from pneumo.data.images import decode_rle
from pneumo.data.siim import parse_rle
from pneumo.data.sources import SIIM_SIDE_PX, Nih, SiimPng
from pneumo.data.split import split_cohort
from pneumo.data.store import open_store
from pneumo.experiment import Experiment
from pneumo.run import run

FOLDER = Path(os.environ.get("PNEUMO_REALDATA") or "/nowhere")

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="PNEUMO_REALDATA is not set to a folder of real files"
)


@pytest.fixture(scope="module")
def annotations() -> pd.DataFrame:
    return parse_rle(FOLDER / "siim" / "train-rle.csv.gz")


@pytest.fixture(scope="module")
def siim() -> Cohort:
    """The PNG release's tables with their patients; the pictures are not needed to split them."""
    tables = []
    for release in ("train", "test"):
        file = f"stage_1_{release}_images.csv"
        table = pd.read_csv(FOLDER / "siim" / file).rename(
            columns={"ImageId": "image_id", "has_pneumo": "label"}
        )
        tables.append(table.assign(release=release, where=[f"{file} row {row + 2:,}" for row in table.index]))
    table = pd.concat(tables, ignore_index=True).assign(patient_id=None, view=None, age=np.nan, sex=None)
    table, notes = with_patients(table, FOLDER / "siim" / "patients.csv")
    assert notes == ()
    return Cohort("siim_png", table, pixels=None)  # type: ignore[arg-type]


def siim_source(split: str, seed: int = 0) -> SiimPng:
    return SiimPng(root=".", image_side_px=512, split=split, split_seed=seed, split_column="release")


def nih_source(split: str) -> Nih:
    return Nih(
        root=str(FOLDER / "nih"), table="images_64.csv", images="images_64", image_side_px=64, split=split
    )


def test_all_siim_annotations_are_12047_images_of_which_2669_positive(annotations: pd.DataFrame) -> None:
    assert len(annotations) == 12_047
    assert annotations["label"].sum() == 2_669
    assert annotations["rle"].map(len).sum() == 3_576
    assert annotations["rle"].map(len).max() == 10


def test_siim_lesions_cover_the_areas_they_are_known_to_cover(annotations: pd.DataFrame) -> None:
    lesions = annotations["rle"][annotations["label"] == 1]
    areas = [
        np.count_nonzero(decode_rle(codes, SIIM_SIDE_PX, SIIM_SIDE_PX)) / SIIM_SIDE_PX**2 for codes in lesions
    ]
    found = np.quantile(areas, [0.05, 0.25, 0.5, 0.75, 0.95, 1])
    np.testing.assert_allclose(found, [0.0013, 0.0039, 0.0082, 0.0175, 0.0437, 0.154], atol=6e-5)


def test_the_tables_of_the_png_release_agree_with_the_annotations(
    siim: Cohort, annotations: pd.DataFrame
) -> None:
    labels = annotations.set_index("image_id")["label"]
    assert (siim.table["image_id"].map(labels) == siim.table["label"]).all()


def test_siim_by_image_leaks_and_by_patient_does_not(siim: Cohort) -> None:
    leaks = [split_cohort(siim, siim_source("image", seed)).patient_memory_auc for seed in range(5)]
    assert 0.80 < np.mean(leaks) < 0.84
    made = split_cohort(siim, siim_source("patient"))
    assert (made.patient_memory_auc, made.patient_memory_auc_val) == (0.5, 0.5)
    sizes = [len(made.train), len(made.val), len(made.test)]
    np.testing.assert_allclose(sizes, [8433, 1807, 1807], rtol=0.01)


def test_the_png_releases_own_split_leaks_too(siim: Cohort) -> None:
    made = split_cohort(siim, siim_source("column"))
    assert len(made.test) == 1_372
    assert made.leak_risk == "patients shared by the column"
    assert made.patient_memory_auc > 0.75
    assert made.patient_memory_auc_val == 0.5


def test_a_thousand_nih_radiographs_load_split_and_show_their_leak(tmp_path: Path) -> None:
    cohort = nih_source("patient")()
    assert len(cohort) == 1_000
    assert cohort.table["patient_id"].nunique() == 264
    assert cohort.table["label"].sum() == 40
    cohort, store = open_store(cohort, 64, tmp_path, "raise", lambda done, total: None)
    assert store.pixels.shape == (1_000, 64, 64)
    assert store.pixels.std(axis=(1, 2)).min() > 5  # none came out empty
    assert split_cohort(cohort, nih_source("patient")).patient_memory_auc == 0.5
    assert split_cohort(cohort, nih_source("image")).patient_memory_auc > 0.8


def test_full_size_nih_radiographs_shrink_to_their_own_mean(tmp_path: Path) -> None:
    source = Nih(root=str(FOLDER / "nih"), table="images_1024.csv", images="images_1024", image_side_px=128)
    whole, small = (
        np.concatenate([block.pixels for block in source().pixels.blocks(side)]) for side in (1024, 128)
    )
    np.testing.assert_allclose(small.mean(axis=(1, 2)), whole.mean(axis=(1, 2)), atol=0.6)


@pytest.mark.parametrize(("split", "leaks"), [("patient", False), ("image", True)])
def test_a_run_trains_on_real_radiographs_and_shows_whether_its_split_leaks(
    split: str, leaks: bool, composed: Callable[..., Experiment], workdir: Path
) -> None:
    given = [f"data.root={FOLDER / 'nih'}", "data.table=images_64.csv", "data.images=images_64"]
    run(
        composed(
            "data=nih",
            *given,
            "data.image_side_px=64",
            f"data.split={split}",
            "model.width=4",
            "fit.epochs=1",
        ),
        workdir / "out",
    )
    (logged,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    memory = logged.data.metrics["split/patient_memory_auc"]
    assert memory > 0.9 if leaks else memory == 0.5
    assert logged.data.tags["leak_risk"] == ("image split" if leaks else "none")
