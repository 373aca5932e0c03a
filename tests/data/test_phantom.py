"""The phantom has SIIM-ACR's shape, and every picture depends on its row and the seed alone."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pneumo.data.phantom import draw, studies


def drawn(table: pd.DataFrame, side_px: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    pixels, masks = zip(*draw(table, side_px, seed), strict=True)
    return np.concatenate(pixels), np.concatenate(masks)


@pytest.fixture(scope="module")
def positives() -> tuple[pd.DataFrame, np.ndarray]:
    """400 positives and their masks at 128 pixels."""
    table = studies(12047, seed=3)
    table = table[table.label == 1].iloc[:400]
    return table, drawn(table, 128, seed=3)[1] > 0


@pytest.mark.parametrize("n_images", [60, 2800, 12047])
def test_prevalence_and_number_of_images_are_exact(n_images: int) -> None:
    table = studies(n_images, seed=0)
    assert len(table) == n_images
    assert table.image_id.is_unique
    assert table.label.sum() == round(0.2215 * n_images)


def test_a_table_can_be_as_short_as_one_row() -> None:
    assert [len(studies(n, seed=0)) for n in (1, 2, 7)] == [1, 2, 7]
    with pytest.raises(ValueError, match="at least one image"):
        studies(0, seed=0)


def test_views_and_sexes_have_the_real_shares() -> None:
    table = studies(12047, seed=0)
    by_view = table.groupby("view").label.mean()
    assert (table["view"] == "AP").mean() == pytest.approx(0.396, abs=0.02)
    assert by_view["AP"] == pytest.approx(0.203, abs=0.02)
    assert by_view["PA"] == pytest.approx(0.233, abs=0.02)
    assert (table.sex == "M").mean() == pytest.approx(0.56, abs=0.03)
    assert table.age.between(0, 100).all()
    assert table.groupby("patient_id").sex.nunique().max() == 1


def test_positives_cluster_in_patients_with_many_images() -> None:
    table = studies(12047, seed=0)
    patients = table.groupby("patient_id").label.agg(["size", "sum"])
    assert len(patients) == 6171
    assert (patients["size"] == 1).sum() == pytest.approx(4219, abs=50)
    classes = pd.cut(patients["size"], [0, 1, 3, 7, 15, 61])
    by_size = patients.groupby(classes, observed=True).sum()
    np.testing.assert_allclose(by_size["sum"] / by_size["size"], [0.03, 0.12, 0.33, 0.47, 0.71], atol=0.07)


@pytest.mark.parametrize(
    ("unit", "expected", "tolerance"), [("image_id", 0.83, 0.03), ("patient_id", 0.5, 0.001)]
)
def test_remembering_patients_pays_on_an_image_split_only(
    unit: str, expected: float, tolerance: float
) -> None:
    scores = []
    for seed in range(5):
        table = studies(12047, seed)
        units = np.random.default_rng(seed).permutation(table[unit].unique())
        is_test = table[unit].isin(units[: len(units) // 5])
        train, test = table[~is_test], table[is_test]
        memory = test.patient_id.map(train.groupby("patient_id").label.mean()).fillna(train.label.mean())
        scores.append(roc_auc_score(test.label, memory))
    assert np.mean(scores) == pytest.approx(expected, abs=tolerance)


def test_chest_tubes_tempt_but_do_not_suffice() -> None:
    table = studies(12047, seed=0)
    assert roc_auc_score(table.label, table.tube) == pytest.approx(0.64, abs=0.02)


def test_same_seed_same_pictures_and_another_seed_others() -> None:
    table = studies(60, seed=0).iloc[:6]
    pixels, masks = drawn(table, 96, seed=0)
    again, masks_again = drawn(table, 96, seed=0)
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(masks, masks_again)
    others = drawn(table, 96, seed=1)[0]
    assert all((pixels[i] != others[i]).mean() > 0.5 for i in range(len(table)))


@pytest.mark.parametrize("side_px", [64, 128, 300])
def test_an_image_does_not_depend_on_what_else_is_drawn(side_px: int) -> None:
    table = studies(60, seed=0)
    order = np.random.default_rng(0).permutation(40)[:9]
    pixels, masks = drawn(table.iloc[:40], side_px, seed=0)
    for rows in (order, order[:1], order[-2:]):
        some, some_masks = drawn(table.iloc[rows], side_px, seed=0)
        np.testing.assert_array_equal(some, pixels[rows])
        np.testing.assert_array_equal(some_masks, masks[rows])


def test_the_number_of_threads_changes_no_picture_and_is_left_as_it_was() -> None:
    table, before = studies(60, seed=0), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(drawn(pd.concat([table] * 2), 80, seed=0))
            assert torch.get_num_threads() == threads
            next(draw(table, 80, seed=0))  # who does not want the rest
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_patient_keeps_their_anatomy_from_image_to_image() -> None:
    table = studies(2800, seed=0)
    table = table[(table.label == 0) & (table["view"] == "PA")]
    many = table.patient_id.value_counts().index[:12]
    table = table[table.patient_id.isin(many)].groupby("patient_id").head(2)
    flat = drawn(table, 64, seed=0)[0].reshape(len(table), -1).astype(float)
    alike = np.corrcoef(flat)
    same = table.patient_id.to_numpy()[:, None] == table.patient_id.to_numpy()[None]
    np.fill_diagonal(same, False)
    distinct = ~same & ~np.eye(len(table), dtype=bool)
    assert alike[same].mean() > alike[distinct].mean()


@pytest.mark.parametrize("side_px", [64, 128, 270])
def test_masks_are_empty_on_negatives_and_never_on_positives(side_px: int) -> None:
    table = studies(60, seed=1).iloc[:24]
    for pixels, masks in draw(table, side_px, seed=1):
        assert pixels.shape[1:] == masks.shape[1:] == (side_px, side_px)
        assert pixels.dtype == masks.dtype == np.uint8
        assert set(np.unique(masks)) <= {0, 255}
    masks = drawn(table, side_px, seed=1)[1]
    np.testing.assert_array_equal(masks.any((1, 2)), table.label.to_numpy() == 1)


def test_the_smallest_lesion_has_a_mask_at_the_smallest_side() -> None:
    table = studies(60, seed=1)
    table = table[table.label == 1].assign(area=1e-5)
    assert drawn(table, 64, seed=1)[1].any((1, 2)).all()


def test_lesion_areas_follow_siim(positives: tuple[pd.DataFrame, np.ndarray]) -> None:
    _, masks = positives
    assert masks.any((1, 2)).all()
    found = np.quantile(masks.mean((1, 2)), [0.05, 0.25, 0.5, 0.75, 0.95])
    np.testing.assert_allclose(found, [0.0013, 0.0039, 0.0082, 0.0175, 0.0437], rtol=0.25)


def test_the_reports_crop_loses_more_than_half_of_the_lesions(
    positives: tuple[pd.DataFrame, np.ndarray],
) -> None:
    _, masks = positives
    crop_px = 56  # 224 of 512, at 128
    rng = np.random.default_rng(0)
    lost = [
        not mask[top : top + crop_px, left : left + crop_px].any()
        for mask in masks
        for top, left in rng.integers(0, 128 - crop_px + 1, (8, 2))
    ]
    assert np.mean(lost) == pytest.approx(0.58, abs=0.04)


def test_air_is_darker_than_the_same_place_without_it() -> None:
    table = studies(400, seed=0)
    table = table[(table.label == 1) & (table.area > 0.01) & (table.tube == 0)].iloc[:16]
    sick, masks = drawn(table, 128, seed=0)
    healthy = drawn(table.assign(label=0, area=0.0), 128, seed=0)[0]
    for with_air, without, mask in zip(sick, healthy, masks > 0, strict=True):
        assert with_air[mask].mean() < without[mask].mean() - 5


def test_sides_outside_the_drawn_range_are_refused() -> None:
    with pytest.raises(ValueError, match="between 64 and 1024"):
        next(draw(studies(1, seed=0), 32, seed=0))
