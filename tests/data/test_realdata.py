"""What only real files can show; they are found through PNEUMO_REALDATA and never copied."""

import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pneumo.data.cohort import Cohort
from pneumo.data.decode.dicom import header, stored
from pneumo.data.decode.images import load_grey
from pneumo.data.decode.lesion_rle import NO_LESION, decode_rle
from pneumo.data.sources.nih import Nih
from pneumo.data.sources.siim import SIIM_SIDE_PX, SiimDicom, SiimPng, read_rle
from pneumo.data.split import split_cohort
from pneumo.data.store import open_store
from pneumo.data.validate import with_patients
from pneumo.runs.experiment import Experiment
from pneumo.runs.run import run

FOLDER = Path(os.environ.get("PNEUMO_REALDATA") or "/nowhere")

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="PNEUMO_REALDATA is not set to a folder of real files"
)


@pytest.fixture(scope="module")
def annotations() -> pd.DataFrame:
    """One row an image: image_id, label (1 = a lesion), rle (tuple of texts)."""
    table = read_rle(FOLDER / "siim" / "train-rle.csv.gz")
    codes = table["EncodedPixels"].where(~table["EncodedPixels"].isin(NO_LESION))
    rle = codes.groupby(table["ImageId"], sort=False).agg(lambda of_image: tuple(of_image.dropna()))
    found = pd.DataFrame({"rle": rle}).reset_index(names="image_id")
    return found.assign(label=(found["rle"].map(len) > 0).astype(int))


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
    return Cohort("siim_png", table, pixels=None)


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
    assert (made.patient_memory_auc, made.numbers["split/patient_memory_auc_val"]) == (0.5, 0.5)
    sizes = [len(made.train), len(made.val), len(made.test)]
    np.testing.assert_allclose(sizes, [8433, 1807, 1807], rtol=0.01)


def test_the_png_releases_own_split_leaks_too(siim: Cohort) -> None:
    made = split_cohort(siim, siim_source("column"))
    assert len(made.test) == 1_372
    assert made.leak_risk == "patients shared by the column"
    assert made.patient_memory_auc > 0.75
    assert made.numbers["split/patient_memory_auc_val"] == 0.5


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
    memory = float(logged.data.params["split/patient_memory_auc"])
    assert memory > 0.9 if leaks else memory == 0.5
    assert logged.data.tags["leak_risk"] == ("image split" if leaks else "none")


SIIM_IMAGE = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819"


def test_a_real_siim_file_of_monochrome1_is_the_negative_of_the_original() -> None:
    normal = load_grey(FOLDER / "dicom", f"{SIIM_IMAGE}.dcm")
    negative = load_grey(FOLDER / "dicom", "txv_Fake_MONOHR1.dcm")
    assert normal.shape == (1024, 1024)
    assert normal.mean() == pytest.approx(160.4, abs=0.1)
    assert (negative == 255 - normal).all()


def test_jpeg_ls_and_rle_of_one_radiograph_are_equal() -> None:
    by_ls, by_rle = (load_grey(FOLDER / "dicom", f"wg04_RG3_{name}.dcm") for name in ("JLSL", "RLE"))
    assert by_ls.shape == (1760, 1760)
    assert (by_ls == by_rle).all()
    assert by_ls.std() > 20


def test_a_chest_of_15_bits_in_jpeg_2000_has_its_window_and_is_no_negative() -> None:
    chest = load_grey(FOLDER / "dicom", "wg04_RG1_J2KI.dcm")
    assert chest.shape == (1955, 1841)
    assert (chest.min(), chest.max()) == (30, 248)  # 26,512 and 803 of a window 0 to 30,000, inverted


def test_a_real_voi_table_is_applied() -> None:
    grey = load_grey(FOLDER / "dicom", "pydicom_vlut_04.dcm")
    assert (grey.min(), grey.max()) == (0, 255)
    assert grey.mean() == pytest.approx(128.83, abs=0.01)  # its table is 257 times the number, in 16 bits


def test_a_hip_in_12_bit_jpeg_of_which_10_are_stored_is_read() -> None:
    path = FOLDER / "dicom" / "wg04_RG2_JPLY.dcm"
    numbers = stored(path)
    assert numbers.shape == (2140, 1760)
    assert (numbers.min(), numbers.max()) == (0, 960)
    assert numbers.mean() == pytest.approx(450.880379, abs=1e-6)  # as libjpeg-turbo 3.1 decodes it
    hip = load_grey(path.parent, path.name)
    assert np.abs(hip - np.clip((numbers + 1) / 1023, 0, 1) * 255).max() <= 0.51  # window 511, 1,024


def test_a_real_siim_header_is_read() -> None:
    found = header(FOLDER / "dicom", f"{SIIM_IMAGE}.dcm")
    assert (found.view, found.age, found.sex, found.body_part) == ("PA", "62", "M", "CHEST")
    assert (found.patient_id, found.problem) == ("16d7f894-55d7-4d95-8957-d18987f0e981", "")


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        (SIIM_IMAGE, ""),
        ("wg04_RG1_J2KI", ""),
        ("wg04_RG2_JPLY", 'header: BodyPartExamined "HIP"'),
        ("wg04_RG3_RLE", 'header: BodyPartExamined "EXTREMITY"'),
    ],
)
def test_real_headers_tell_a_hip_and_an_extremity_from_chests(name: str, flag: str) -> None:
    assert header(FOLDER / "dicom", f"{name}.dcm").flag == flag


def test_the_real_annotations_and_a_real_file_meet_in_one_cohort(
    annotations: pd.DataFrame, tmp_path: Path
) -> None:
    images = tmp_path / "dicom-images-train" / "study" / "series"
    images.mkdir(parents=True)
    positive = annotations["image_id"][annotations["label"] == 1].iloc[0]
    for name in (SIIM_IMAGE, positive):  # the one file stands in for a positive's, which is not at hand
        (images / f"{name}.dcm").write_bytes((FOLDER / "dicom" / f"{SIIM_IMAGE}.dcm").read_bytes())
    (tmp_path / "train-rle.csv.gz").write_bytes((FOLDER / "siim" / "train-rle.csv.gz").read_bytes())
    cohort = SiimDicom(
        root=str(tmp_path),
        images="dicom-images-train",
        table="train-rle.csv",
        image_side_px=512,
        on_error="skip",
    )()
    assert set(cohort.table["image_id"]) == {SIIM_IMAGE, positive}
    assert len(cohort.skipped) > 12_000
    (block,) = cohort.pixels.blocks(512)
    assert block.has_mask.tolist() == (cohort.table["label"] == 1).tolist()
