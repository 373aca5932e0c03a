"""DeLong's variance against its definition, and against resampling."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumo.evaluation import delong


def sample(seed, n=60, ties=False):
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(int)
    scores = labels + random.normal(0, 1.2, (2, n))
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_areas_and_covariance_are_those_of_the_definition(ties):
    labels, scores = sample(0, ties=ties)
    areas, covariance = delong.aurocs(labels, scores)
    above = scores[:, labels == 1][:, :, None] - scores[:, labels == 0][:, None, :]
    psi = (above > 0) + 0.5 * (above == 0)
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    expected = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    assert areas == pytest.approx([roc_auc_score(labels, one) for one in scores], abs=1e-12)
    assert np.allclose(covariance, expected, atol=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    truth, covered = 0.76024994, 0  # of two normals one apart: Phi(1 / sqrt 2)
    for _ in range(400):
        labels = np.arange(120) % 2
        low, high = delong.interval(labels, labels + random.normal(size=120))
        covered += low < truth < high
    assert 0.92 <= covered / 400 <= 0.98


def test_two_scores_of_the_same_images_differ_by_less_than_each_is_unsure():
    labels, (first, _) = sample(2)
    second = first + np.random.default_rng(0).normal(0, 0.05, len(first))
    found = delong.difference(labels, first, second)
    low, high = delong.interval(labels, first)
    assert found.interval[1] - found.interval[0] < (high - low) / 4
    assert found.interval[0] < found.value < found.interval[1]


def test_equal_scores_do_not_differ():
    labels, (scores, _) = sample(3)
    assert delong.difference(labels, scores, scores) == delong.Difference(0.0, (0.0, 0.0), 1.0)
