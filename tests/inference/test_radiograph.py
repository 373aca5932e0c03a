"""What is plainly no frontal chest film is flagged; what may be one is not."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib import cbook
from PIL import Image
from sklearn.datasets import load_sample_images

from pneumo.data import phantom
from pneumo.data.decode.grayscale import UnreadableError
from pneumo.data.decode.images import load_grey, load_grey_and_colour
from pneumo.inference.radiograph import implausibility, read_radiograph

REAL = os.environ.get("PNEUMO_REALDATA")


def test_the_phantom_s_drawings_pass():
    drawn = [
        read_radiograph
        for pixels, _ in phantom.draw(phantom.studies(60, 3), 64, 3)
        for read_radiograph in pixels
    ]
    assert [implausibility(one, 0.0) for one in drawn] == [""] * 60


@pytest.mark.skipif(not REAL, reason="PNEUMO_REALDATA is not set")
def test_real_frontal_films_pass():
    films = [*Path(REAL, "nih").rglob("*.png"), *Path(REAL, "dicom").glob("[1t]*.dcm")]
    flagged = [path for path in films if implausibility(*load_grey_and_colour(path.parent, path.name))]
    assert len(films) > 1000
    assert not flagged


@pytest.mark.parametrize("number", [0, 1])
def test_a_colour_photograph_is_flagged(number, tmp_path):
    Image.fromarray(load_sample_images().images[number]).save(tmp_path / "photo.jpg")
    assert read_radiograph(tmp_path / "photo.jpg", 64).flag == "in colour"


def test_a_portrait_in_colour_is_flagged():
    assert (
        read_radiograph(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)), 64).flag
        == "in colour"
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_grey_saved_as_colour_is_no_colour(tmp_path, mode):
    grey = np.tile(np.linspace(40, 250, 80).astype(np.uint8), (80, 1))
    Image.fromarray(grey).convert(mode).save(tmp_path / "x.png")
    seen, colour = load_grey_and_colour(tmp_path, "x.png")
    assert implausibility(seen, colour) == ""
    assert np.array_equal(seen, load_grey(tmp_path, "x.png"))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_is_flagged(level):
    noise = np.random.default_rng(0).integers(-3, 4, (200, 200))
    assert implausibility(np.clip(level + noise, 0, 255).astype(np.uint8), 0.0) == "nearly one shade"


def test_a_body_that_reaches_no_edge_is_flagged():
    down, across = np.mgrid[-1:1:256j, -1:1:256j]
    body = (down / 0.6) ** 2 + (across / 0.8) ** 2 < 1
    assert implausibility(np.where(body, 140, 0).astype(np.uint8), 0.0) == "dark all around, as a CT slice is"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_real_slice_in_dicom_is_refused_by_its_modality(name):
    with pytest.raises(UnreadableError, match=f"{name} has the modality"):
        read_radiograph(Path(pydicom.data.get_testdata_file(name, download=False)), 64)


def test_what_the_check_misses_is_known():
    """A grey photograph passes: docs/predicting.md says so."""
    photo = Image.fromarray(load_sample_images().images[0]).convert("L")
    assert implausibility(np.asarray(photo), 0.0) == ""


def test_a_strip_is_flagged():
    assert "too narrow" in implausibility(np.zeros((100, 201), np.uint8), 0.0)
    assert "too narrow" not in implausibility(np.zeros((100, 200), np.uint8), 0.0)
