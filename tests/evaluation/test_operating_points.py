"""The thresholds of an evaluation's page, by hand and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from pneumo.evaluation.operating_points import OperatingPoints, decimal_between

RANDOM = np.random.default_rng(0)


def test_thresholds_of_four_images_by_hand():
    found = OperatingPoints.of(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9]), 0.5)
    assert found.thresholds == [0.1, 0.4, 0.5, 0.9, 1.0]
    assert found.shown == [".100", ".400", ".500", ".900", "1.000"]
    assert found.tp == [2, 2, 1, 1, 0]
    assert found.fp == [2, 1, 1, 0, 0]
    assert (found.positives, found.negatives, found.start) == (2, 2, 2)
    assert found.prevalence == 0.5


@pytest.mark.parametrize(
    ("below", "above", "number", "text"),
    [
        (0.1, 0.72149, 0.721, ".721"),
        (0.7213, 0.72149, 0.7214, ".7214"),
        (0.0, 0.00003456, 3e-5, "3e-5"),
        (0.9999991, 0.99999987, 0.9999998, ".9999998"),
        (0.9, 1.0, 1.0, "1.000"),
    ],
)
def test_the_shortest_decimal_between_two_scores(below, above, number, text):
    assert decimal_between(below, above) == (number, text)


def test_equal_scores_have_no_decimal_between_them():
    assert decimal_between(0.5, 0.5) is None
    assert decimal_between(0, 0) is None


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=40),
    st.floats(0.01, 0.99),
    st.integers(3, 60),
)
def test_at_each_threshold_the_counts_are_scikit_learn_s(scores, threshold, most):
    labels, p = np.arange(len(scores)) % 2, np.array(scores)
    found = OperatingPoints.of(labels, p, threshold, most)
    assert found.thresholds[found.start] == threshold
    assert found.thresholds == sorted(found.thresholds)
    assert len(found.thresholds) <= most + 1
    for number, shown, tp, fp in zip(found.thresholds, found.shown, found.tp, found.fp, strict=True):
        _, false_alarms, _, hits = confusion_matrix(labels, p >= number).ravel()
        assert (tp, fp) == (hits, false_alarms)
        if number != threshold:
            assert float(shown) == number


def test_many_thresholds_are_thinned_along_the_roc_curve():
    labels = (np.arange(20_000) < 60).astype(int)
    found = OperatingPoints.of(labels, RANDOM.random(20_000) / (2 - labels), 0.4)
    assert 200 <= len(found.thresholds) <= 401
    along = np.array(found.tp) / 60 + np.array(found.fp) / (20_000 - 60)
    assert along[0] == 2
    assert np.abs(np.diff(along)).max() <= 2 / 398 + 1 / 60


def test_the_prevalence_of_the_images_can_be_chosen_wherever_it_lies():
    for positives, negatives in ((1, 4999), (1, 4), (90, 10)):
        labels = np.repeat([1, 0], [positives, negatives])
        found = OperatingPoints.of(labels, labels / 2, 0.3)
        shares = found.prevalences
        assert shares == sorted(set(shares))
        assert shares[found.content()["own_prevalence"]] == positives / (positives + negatives)
        assert shares[0] <= 0.01
        assert shares[-1] >= 0.6
