"""Styles change how radiographs look and what they show, not whose they are or what they are labelled."""

import numpy as np
import pandas as pd
import pytest

from pneumo.data.phantom import STYLES, draw, studies
from pneumo.data.phantom.style import Style
from pneumo.data.sources import Phantom
from pneumo.errors import InputError

OTHERS = [name for name in STYLES if name != "default"]


def drawn(table: pd.DataFrame, side_px: int = 64) -> np.ndarray:
    return np.concatenate([pixels for pixels, _ in draw(table, side_px, seed=0)])


def test_a_mix_gives_as_many_patients_each_style_and_a_patient_one() -> None:
    table = studies(2800, 0, ["faint", "default", "soft"])
    by_patient = table.groupby("patient_id")["style"]
    assert by_patient.nunique().max() == 1
    counts = by_patient.first().value_counts()
    assert set(counts.index) == {"faint", "default", "soft"}
    assert counts.max() - counts.min() <= 1


def test_a_row_of_a_mix_is_that_of_its_style_alone() -> None:
    mixed = studies(120, 0, ["faint", "portable", "tiny"]).iloc[:45]
    pixels = drawn(mixed)
    for style in ("faint", "portable", "tiny"):
        rows = np.flatnonzero(mixed["style"] == style)
        alone = studies(120, 0, [style])
        pd.testing.assert_frame_equal(mixed.iloc[rows], alone.iloc[rows])
        np.testing.assert_array_equal(drawn(alone.iloc[rows]), pixels[rows])


@pytest.mark.parametrize("style", OTHERS)
def test_a_style_keeps_who_is_imaged_and_changes_the_pictures(style: str) -> None:
    known = ["image_id", "patient_id", "label", "view", "age", "sex"]
    table, usual = studies(2800, 0, [style]), studies(2800, 0)
    pd.testing.assert_frame_equal(table[known], usual[known])
    rows = np.flatnonzero(table.label == 1)[:20]  # negatives of `faint` and `tiny` change where a share does
    changed = (drawn(table.iloc[rows]) != drawn(usual.iloc[rows])).any((1, 2))
    assert changed.mean() > 0.3


@pytest.mark.parametrize("style", OTHERS)
def test_other_styles_have_other_digests_and_another_namespace(style: str) -> None:
    usual, other = (Phantom(image_side_px=64, n_images=60, style=name)() for name in ("default", style))
    assert (usual.pixels.digests()[:, 0] != other.pixels.digests()[:, 0]).all()
    assert usual.namespace != other.namespace


def test_the_default_style_changes_nothing_and_is_the_one_without_a_name() -> None:
    assert STYLES["default"].changes() == ""
    assert Style(noise=2.0, level=-0.1).changes() == "noise=2.0 level=-0.1"
    cohorts = [Phantom(image_side_px=64, n_images=60, **fields)() for fields in ({}, {"style": ["default"]})]
    assert (cohorts[0].pixels.digests() == cohorts[1].pixels.digests()).all()
    assert [cohort.namespace for cohort in cohorts] == ["phantom 1 0 60"] * 2


def test_the_table_has_the_lesions_and_tubes_of_its_style() -> None:
    table = studies(12047, 0, ["tiny"])
    log_area = np.log(table.area[table.label == 1])
    assert np.exp(log_area.median()) == pytest.approx(0.3 * 0.0084, rel=0.01)
    assert log_area.quantile(0.75) - log_area.median() == pytest.approx(0.6745 * 0.65 * 1.115, rel=0.01)
    tubes = studies(12047, 0, ["mimics"]).groupby("label").tube.mean()
    assert tubes[0] == pytest.approx(6 * 0.05, abs=0.02)
    assert tubes[1] == pytest.approx(1 / 3, abs=0.03)


def test_air_stands_out_less_in_faint_and_more_in_crisp_radiographs() -> None:
    def contrast(style: str) -> float:
        """The mean number of grey values by which air is darker than the same place without it."""
        table = studies(400, 0, [style])
        table = table[(table.label == 1) & (table.area > 0.01)].iloc[:16].assign(tube=0)
        masks = np.concatenate([masks for _, masks in draw(table, 128, seed=0)]) > 0
        healthy = drawn(table.assign(label=0, area=0.0), 128).astype(float)
        difference = healthy - drawn(table, 128)
        return float(np.mean([one[mask].mean() for one, mask in zip(difference, masks, strict=True)]))

    faint, usual, crisp = map(contrast, ("faint", "default", "crisp"))
    assert 3 < faint < 0.7 * usual
    assert usual < crisp


def test_the_cohort_names_styles_where_there_are_several() -> None:
    mixed = Phantom(image_side_px=64, n_images=60, style=["faint", "soft"])().table
    assert set(mixed["style"]) == {"faint", "soft"}
    assert "style" not in Phantom(image_side_px=64, n_images=60, style="faint")().table


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("fiant", r"there is no style 'fiant'; did you mean faint\? all are: default, crisp, .*mimics"),
        (["soft", "x"], "there is no style 'x'; all are: default"),
        ([], r"must be a name or a list of names, got \[\]"),
        (3, "must be a name or a list of names, got 3"),
    ],
)
def test_an_unknown_style_is_refused_with_those_there_are(style: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Phantom(image_side_px=64, style=style)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
