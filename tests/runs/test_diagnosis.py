"""Metrics of a finished run."""

import numpy as np
import pytest
from scipy.special import expit

from pneumo.evaluation.metrics import calls_one_class
from pneumo.runs.collapse import calls_as_calibrated, chance_message, ranks_by_chance
from pneumo.runs.results import SplitResult, calibrated_brier
from pneumo.training.predict import Predictions


def split_result(log_odds, labels, patients):
    scores = expit(log_odds)
    predictions = Predictions(np.arange(len(labels)), labels, log_odds[:, None], scores, 0.0)
    return SplitResult(predictions, patients, 0.5, {}, {})


def test_the_brier_score_after_calibration_is_the_same_on_any_scale_of_the_log_odds():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    odds = generator.normal(2 * labels - 1.0, 1.5)
    patients = np.repeat(np.arange(200), 2)
    found = [calibrated_brier(split_result(scale * odds, labels, patients)) for scale in (1.0, 0.3, 3.0)]
    assert found[1:] == pytest.approx([found[0]] * 2, abs=1e-6)
    assert found[0] < np.mean((expit(3 * odds) - labels) ** 2)


def test_each_half_of_the_patients_is_scaled_as_suits_the_other():
    # patient 0 is right, with targets 2/3 and 1/3; patient 1 is wrong, where the slope ends at 1/20
    labels, patients = np.array([1, 0, 0, 1]), np.array([0, 0, 1, 1])
    odds = np.array([4.0, -4.0, 4.0, -4.0])
    of_right, of_wrong = (1 - expit(4 / 20)) ** 2, (2 / 3) ** 2
    found = calibrated_brier(split_result(odds, labels, patients))
    assert found == pytest.approx((of_right + of_wrong) / 2, abs=1e-4)


def test_the_brier_score_after_calibration_is_not_known_where_a_half_has_one_class():
    labels, patients = np.array([1, 0, 1, 0]), np.array([0, 1, 2, 3])
    assert np.isnan(calibrated_brier(split_result(np.array([4.0, 4.0, -4.0, -4.0]), labels, patients)))


@pytest.mark.parametrize(("shift", "n", "by_chance"), [(0.0, 200, True), (2.0, 200, False), (0.0, 6, False)])
def test_a_ranking_is_called_chance_where_its_interval_reaches_one_half(shift, n, by_chance):
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 2
    odds = generator.normal(shift * labels, 1.0)
    predictions = Predictions(np.arange(n), labels, odds[:, None], expit(odds), 0.0)
    result = SplitResult.of(predictions, np.arange(n), 0.5)
    assert ranks_by_chance(result) == by_chance, result.intervals["auroc"]  # 6 images have no interval
    if by_chance:
        low, high = result.intervals["auroc"]
        assert low < 0.5 < high
        assert f"{result.metrics['auroc']:.3f}"[1:] in chance_message(result, "test")


@pytest.mark.parametrize(
    ("prevalence", "separation", "shift", "seldom", "collapsed"),
    [
        (0.05, 1.2, 0, True, False),
        (0.95, 1.2, 0, True, False),
        (0.22, 0.7, 0, True, False),
        (0.22, 1.2, 0, False, False),
        (0.05, 0.0, 0, True, True),
        (0.22, 0.0, 0, True, True),
        (0.22, 1.2, -3, True, True),
        (0.78, 1.2, 3, True, True),
        (0.22, 1.2, 5, True, True),
        (0.78, 1.2, -5, True, True),
    ],
)
def test_a_model_collapses_where_it_ranks_by_chance_or_calls_far_fewer_than_a_calibrated_one(
    prevalence, separation, shift, seldom, collapsed
):
    generator = np.random.default_rng(0)
    labels = (np.arange(4000) < 4000 * prevalence).astype(int)
    values = generator.normal(separation * labels, 1.0)
    # the log odds of two normal distributions that differ in their mean: P is calibrated
    odds = separation * (values - separation / 2) + np.log(prevalence / (1 - prevalence)) + shift
    predictions = Predictions(np.arange(4000), labels, odds[:, None], expit(odds), 0.0)
    result = SplitResult.of(predictions, np.arange(4000), 0.5)
    assert calls_one_class(labels, predictions.scores) == seldom
    assert (seldom and not calls_as_calibrated(result)) == collapsed


@pytest.mark.parametrize(("low", "excused"), [(0.75, False), (0.65, True)])
def test_few_images_of_which_none_is_called_have_collapsed_unless_that_may_be_chance(low, excused):
    # of 90 images with 22% positives, a calibrated model calls 6.6 with an AUROC of .75, .8 with .65
    labels = np.arange(90) < 20
    predictions = Predictions(np.arange(90), labels, np.full((90, 1), -3.0), np.full(90, 0.05), 0.0)
    result = SplitResult(predictions, np.arange(90), 0.5, {}, {"auroc": (low, 0.9)})
    assert calls_as_calibrated(result) == excused
