"""Do maps lie on lesions."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import store_of
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from test_saliency import made
from torch import nn

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.display.pages import markdown
from pneumo.evaluation import metrics
from pneumo.evaluation.map_overlap import (
    TOLERANCE,
    energy,
    lesion_pixels,
    near_lesion,
    overlap_metrics,
    pixel_auprc,
    pointing,
)
from pneumo.inference import localisation, saliency
from pneumo.inference.gallery import gallery
from pneumo.inference.localisation import measure_localisation, sections, with_random_weights
from pneumo.training.predict import Predictions

__all__ = ["made"]  # a fixture

SIDE = 32


def square(row, column, side, size=SIDE):
    mask = np.zeros((size, size), np.uint8)
    mask[row : row + side, column : column + side] = 255
    return mask


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_figures_are_those_of_a_naive_loop(seed, levels):
    random = np.random.default_rng(seed)
    size = 12
    lesion = square(*random.integers(0, 9, 2), random.integers(1, 4), size) > 0
    map_ = random.integers(0, levels + 1, (size, size)).astype(np.float32) / levels
    map_[0, 0] = 1
    places = [(r, c) for r in range(size) for c in range(size)]
    top = max(map_[p] for p in places)
    highest = [place for place in places if map_[place] == top]

    def hits(place):
        distances = [np.hypot(place[0] - r, place[1] - c) for r, c in places if lesion[r, c]]
        return min(distances) <= TOLERANCE * size

    assert pointing(map_, near_lesion(lesion)) == pytest.approx(np.mean([hits(place) for place in highest]))
    inner = sum(map_[p] for p in places if lesion[p])
    assert energy(map_, lesion) == pytest.approx(inner / sum(map_[p] for p in places), rel=1e-5)
    assert pixel_auprc(map_, lesion) == pytest.approx(average_precision_score(lesion.ravel(), map_.ravel()))


def test_a_perfect_map_has_all_and_an_even_one_the_lesion_s_share():
    lesions = square(4, 6, 8)[None] > 0
    near = near_lesion(lesions[0])[None]
    assert np.allclose(overlap_metrics(lesions.astype(np.float32), lesions, near), 1)
    even = overlap_metrics(np.ones((1, SIDE, SIDE), np.float32), lesions, near)
    assert np.allclose(even, [[near.mean(), 64 / SIDE**2, 64 / SIDE**2]])


def test_a_maximum_beside_the_lesion_is_a_hit_within_three_hundredths_of_the_side():
    near = near_lesion(square(40, 40, 10, size=100) > 0)
    found = {gap: near[45, 49 + gap] for gap in (0, 1, 3, 4)}
    assert found == {0: True, 1: True, 3: True, 4: False}


def test_a_lesion_thinner_than_a_pixel_is_not_empty():
    thin = square(3, 3, 2) // 5
    assert lesion_pixels(thin).sum() == 4
    assert lesion_pixels(square(3, 3, 2)).sum() == 4


def test_intervals_of_means_resample_whole_patients():
    """One of two patients has three of the four images: draws are 0, .75 of all, or 1."""
    patients, values = np.array([7, 7, 7, 9]), np.array([[1.0], [1], [1], [0]])
    assert metrics.bootstrap_means(values, patients) == [(0.0, 1.0)]
    alike = metrics.bootstrap_means(np.full((4, 2), 0.3), patients)
    assert np.allclose(alike, 0.3)


def test_intervals_of_means_are_those_of_a_naive_bootstrap():
    random = np.random.default_rng(0)
    patients = random.integers(0, 12, 60)
    values = random.random((60, 2)) + patients[:, None] / 12
    groups = [values[patients == p] for p in np.unique(patients)]
    draws = [
        np.concatenate([groups[i] for i in random.integers(0, len(groups), len(groups))]).mean(axis=0)
        for _ in range(4000)
    ]
    expected = np.quantile(draws, [0.025, 0.975], axis=0).T
    assert np.allclose(metrics.bootstrap_means(values, patients), expected, atol=0.03)


class Bright(nn.Module):
    """(B, 1, H, W) -> (B, 1): the mean of what a convolution finds above a brightness."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        nn.init.constant_(self.conv.weight, 1.0)
        nn.init.constant_(self.conv.bias, -0.5)

    def forward(self, images):
        return self.conv(images).relu().mean(dim=(2, 3))


@pytest.fixture
def squares(made, composed, workdir):
    """A model that looks at bright pixels, and images whose lesions are bright squares."""

    def make(n_masked=20, n_other=10):
        random = np.random.default_rng(0)
        pixels = random.integers(0, 150, (n_masked + n_other, SIDE, SIDE), np.uint8)
        masks = np.zeros_like(pixels)
        for i in range(n_masked):
            masks[i] = square(*random.integers(2, 24, 2), 2 + i % 4)
        pixels[masks > 0] = 250
        whole = load_dataset(composed("data.n_images=160", "data.image_side_px=64").data, lambda *_: None)
        table = whole.cohort.table[: len(pixels)].assign(label=masks.any(axis=(1, 2)).astype(int))
        dataset = Dataset(replace(whole.cohort, table=table), store_of(pixels, masks), whole.split)
        trained = made("model.width=4", backbone=Bright())
        with torch.no_grad():
            trained.model.head.weight.fill_(4.0)
        return trained, dataset

    return make


def test_a_model_that_looks_at_lesions_is_told_from_randomised_ones(squares):
    trained, dataset = squares()
    found = measure_localisation(trained, dataset, np.arange(30))
    assert (found.n_images, found.n_unannotated) == (20, 0)
    for map_ in saliency.MAPS:
        for one in found.of(map_):
            assert one.verdict == localisation.BETTER
            low, high = one.difference.interval
            assert low <= one.trained.value - one.randomised.value <= high
    assert "SHOWN" not in markdown(sections(found))


def test_randomised_weights_are_no_better_than_randomised_weights_and_it_says_so(squares):
    trained, dataset = squares()
    found = measure_localisation(with_random_weights(trained, 99), dataset, np.arange(30))
    said = markdown(sections(found))
    assert said.count("SHOWN to be") == len(saliency.MAPS)
    assert "no better than randomised" in said


def test_an_empty_map_counts_as_chance(squares, monkeypatch):
    trained, dataset = squares()

    def without_grad_cam(*given):
        maps = saliency.compute_maps(*given)
        return maps | {"grad_cam": np.zeros_like(maps["grad_cam"])}

    monkeypatch.setattr(localisation, "compute_maps", without_grad_cam)
    found = measure_localisation(trained, dataset, np.arange(30))
    assert found.empty["grad_cam"] == (20, 20)
    for one in found.of("grad_cam"):
        assert one.trained.value == pytest.approx(one.chance)
        assert one.verdict == "no better than randomised"
    assert "Grad-CAM is empty in 20 of 20 images" in markdown(sections(found))


def test_every_lesion_is_of_one_size(squares):
    trained, dataset = squares()
    found = measure_localisation(trained, dataset, np.arange(30))
    for map_ in saliency.MAPS:
        by_size = {size: found.of(map_, size) for size in localisation.SIZES}
        assert sum(ones[0].n_images for ones in by_size.values() if ones) == 20
    share = {i % 4: (2 + i % 4) ** 2 / SIDE**2 for i in range(20)}
    assert found.of("saliency", "small")[0].n_images == 5 * sum(s <= 0.0051 for s in share.values())
    assert found.of("saliency", "large")[0].n_images == 5 * sum(s > 0.0131 for s in share.values())


def test_randomised_models_are_the_same_each_time_and_leave_the_random_state(squares):
    trained, _ = squares()
    state = torch.random.get_rng_state()
    one, again, other = (with_random_weights(trained, seed).model.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_without_drawn_lesions_it_is_skipped_and_said(squares):
    trained, dataset = squares(n_masked=0)
    assert measure_localisation(trained, dataset, np.arange(10)) is None
    assert measure_localisation(trained, squares()[1], np.arange(20, 30)) is None
    assert "Skipped: none of these images has an annotated lesion" in markdown(sections(None))


def test_positives_that_nobody_drew_are_counted_as_left_out(squares):
    trained, dataset = squares()
    table = dataset.cohort.table.assign(label=1)
    more = replace(dataset, cohort=replace(dataset.cohort, table=table))
    found = measure_localisation(trained, more, np.arange(30))
    assert found.n_unannotated == 10
    assert "Left out: 10 positives without an annotated lesion." in markdown(sections(found))


def test_of_many_lesions_some_are_drawn_at_random_from_all_and_the_page_says_how_many(squares, monkeypatch):
    trained, dataset = squares()
    monkeypatch.setattr(localisation, "MOST", 8)
    found = measure_localisation(trained, dataset, np.arange(30))
    assert {one.n_images for one in found.of("saliency")} == {8}
    assert (found.n_images, found.n_annotated, found.n_unannotated) == (8, 20, 0)
    assert "with an annotated lesion, drawn at random from 20." in markdown(sections(found))


def captions(figure):
    """The id and the outcome above the two pictures of each image."""
    texts = [text.get_text() for text in figure.axes[0].texts]
    return [(name, said) for name, said in pairwise(texts) if said.startswith("P ")]


def test_the_gallery_shows_the_most_wrong_first(squares):
    trained, dataset = squares(n_masked=30, n_other=26)
    labels = dataset.labels
    random = np.random.default_rng(0)
    scores = (2 * labels + 3 * random.random(len(labels))) / 5
    rows = random.permutation(len(labels))
    predictions = Predictions(rows, labels[rows], np.zeros((len(rows), 1)), scores[rows], 0.0)
    found = gallery(trained, dataset, predictions)
    assert list(found) == ["The 24 most wrong", "The 24 most right"]
    ids = dataset.cohort.table["image_id"].to_numpy()
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    error = np.abs(labels - scores)
    for caption, sign in (("The 24 most wrong", -1), ("The 24 most right", 1)):
        expected = [
            ids[row]
            for mine in (positives, negatives)
            for row in sorted(mine, key=lambda row: sign * error[row])[:12]
        ]
        assert [name for name, _ in captions(found[caption])] == expected
    for name, said in captions(found["The 24 most wrong"]):
        row = list(ids).index(name)
        missed, alarm = labels[row] and scores[row] < 0.5, not labels[row] and scores[row] >= 0.5
        word = "missed" if missed else "false alarm" if alarm else "found" if labels[row] else "cleared"
        assert said.endswith(word)


def test_of_few_images_none_is_shown_twice(squares):
    trained, dataset = squares(n_masked=3, n_other=1)
    labels = dataset.labels
    predictions = Predictions(np.arange(4), labels, np.zeros((4, 1)), np.array([0.1, 0.6, 0.9, 0.2]), 0.0)
    shown = [
        name for figure in gallery(trained, dataset, predictions).values() for name, _ in captions(figure)
    ]
    assert sorted(shown) == sorted(dataset.cohort.table["image_id"])
