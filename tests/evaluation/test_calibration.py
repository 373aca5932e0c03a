"""Probabilities that mean what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from pneumo.evaluation import calibration
from pneumo.evaluation.platt import UNSCALED, PlattScaling

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(-1, 2, 4000)
Y = (RANDOM.random(4000) < expit(0.6 * X + 0.4)).astype(int)


def test_brier_slope_and_intercept_are_scikit_learn_s():
    found = {name: value[0] for name, value in calibration.calibration_metrics(X, Y).items()}
    fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(X[:, None], Y)
    assert found["brier"] == pytest.approx(brier_score_loss(Y, expit(X)), abs=1e-12)
    assert found["slope"] == pytest.approx(fitted.coef_[0, 0], abs=1e-6)
    a = found["intercept"]
    assert expit(X + a).sum() == pytest.approx(Y.sum(), abs=1e-6), "the score equation of an offset model"


def test_ece_of_ten_bins_is_that_of_a_loop():
    total = 0.0
    for members in np.array_split(np.argsort(X), 10):
        total += len(members) / len(X) * abs(expit(X[members]).mean() - Y[members].mean())
    assert calibration.calibration_metrics(X, Y)["ece"][0] == pytest.approx(total, abs=1e-12)


def test_weights_count_as_repeated_images():
    times = RANDOM.integers(0, 4, (3, 300))
    weighted = calibration.calibration_metrics(X[:300], Y[:300], times.astype(float))
    for draw in range(3):
        repeated = calibration.calibration_metrics(
            np.repeat(X[:300], times[draw]), np.repeat(Y[:300], times[draw])
        )
        assert weighted["brier"][draw] == pytest.approx(repeated["brier"][0], abs=1e-12)
        for name in ("slope", "intercept"):
            assert weighted[name][draw] == pytest.approx(repeated[name][0], abs=2e-3), "groups of neighbours"


def test_platt_scaling_is_the_logistic_regression_on_his_targets():
    n = len(Y)
    high, low = (Y.sum() + 1) / (Y.sum() + 2), 1 / (n - Y.sum() + 2)
    share = np.where(Y, high, low)  # an image counts as this much of a positive, the rest of a negative
    fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(
        np.tile(X, 2)[:, None], np.repeat([1, 0], n), np.concatenate([share, 1 - share])
    )
    found = calibration.platt_scaling(X, Y)
    expected = pytest.approx([fitted.coef_[0, 0], fitted.intercept_[0]], abs=1e-6)
    assert [found.slope, found.intercept] == expected


def test_platt_scaling_of_few_images_leaves_doubt():
    found = calibration.platt_scaling(np.array([4.0, -4.0]), np.array([1, 0]))  # targets 2 / 3 and 1 / 3
    assert [found.slope, found.intercept] == pytest.approx([np.log(2) / 4, 0])


@given(st.floats(0.2, 5), st.floats(-5, 5), st.integers(0, 1000))
@settings(max_examples=30)
def test_platt_scaling_undoes_what_scaled_and_shifted_the_log_odds(scale, shift, seed):
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, 3000)
    labels = (random.random(3000) < expit(true)).astype(int)
    changed = true * scale + shift
    found = calibration.platt_scaling(changed, labels).probabilities(changed)
    assert found == pytest.approx(calibration.platt_scaling(true, labels).probabilities(true), abs=1e-6)
    assert found == pytest.approx(expit(true), abs=0.08)


@given(
    arrays(float, st.integers(2, 20), elements=st.sampled_from([-20, -3, -1e-9, 0, 0.5, 4, 4 + 1e-9, 20.0])),
    st.integers(0, 2**20 - 1),
)
def test_platt_scaling_keeps_the_ranking_and_gives_the_prevalence(log_odds, bits):
    labels = np.array([bits >> i & 1 for i in range(len(log_odds))])
    p = calibration.platt_scaling(log_odds, labels).probabilities(np.sort(log_odds))
    assert (np.diff(p) >= 0).all()
    if 0 < (a := labels.sum()) < (n := len(labels)):
        mean_target = (a * (a + 1) / (a + 2) + (n - a) / (n - a + 2)) / n
        assert p.mean() == pytest.approx(mean_target, abs=1e-6)


@pytest.mark.parametrize("at", [-14.5, 2.2, 14.5])
@pytest.mark.parametrize("spread", [1e-7, 1e-3, 0.1])
def test_scores_that_hardly_vary_are_scaled_to_the_prevalence(at, spread):
    random = np.random.default_rng(0)
    labels = (np.arange(420) < 93).astype(int)
    log_odds = at + spread * (random.normal(0, 1, 420) + 2 * labels)
    p = calibration.platt_scaling(log_odds, labels).probabilities(log_odds)
    assert p.mean() == pytest.approx((93 * 94 / 95 + 327 / 329) / 420, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_probability_of_extreme_log_odds_is_0_or_1_without_a_warning():
    assert list(PlattScaling(20.0, 0.0).probabilities(np.array([-40.0, 40.0]))) == [0, 1]


def test_a_model_that_scores_all_images_alike_gives_the_prevalence():
    p = calibration.platt_scaling(np.full(1000, -3.0), np.arange(1000) < 200).probabilities(np.array([-3.0]))
    assert p == pytest.approx([(200 * 201 / 202 + 800 / 802) / 1000])


def test_perfect_probabilities_are_called_perfect():
    p = np.repeat([0.2, 0.8], 500)
    labels = np.r_[np.repeat([1, 0], [100, 400]), np.repeat([1, 0], [400, 100])]
    found = calibration.calibration_metrics(logit(p), labels)
    assert [found[name][0] for name in ("slope", "intercept", "ece")] == pytest.approx([1, 0, 0], abs=1e-9)


def test_scores_that_separate_the_classes_have_no_slope():
    x, y = np.array([-3.0, -2, -1, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1])
    assert np.isnan(calibration.calibration_metrics(x, y)["slope"][0])
    weights = np.array([[1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1.0]])  # the first leaves the crossing out
    crossed = calibration.calibration_metrics(np.array([-3.0, -2, 2, 1, -1, 3]), y, weights)["slope"]
    assert np.isnan(crossed).tolist() == [True, False]


def test_a_draw_without_a_class_has_no_slope():
    weights = np.stack([Y == 1, np.ones(len(Y))]).astype(float)
    assert np.isnan(calibration.calibration_metrics(X, Y, weights)["slope"]).tolist() == [True, False]


@pytest.mark.parametrize("spread", [2.0, 0.01, 0.003, 1e-5])
def test_the_slope_of_scores_that_hardly_vary_is_that_of_a_converged_fit(spread):
    random = np.random.default_rng(3)
    standard = random.normal(size=2000)
    labels = (random.random(2000) < expit(-1 + 0.5 * standard)).astype(int)
    fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(standard[:, None], labels)
    expected = fitted.coef_[0, 0] / spread
    log_odds = -1 + spread * standard
    assert calibration.calibration_metrics(log_odds, labels)["slope"][0] == pytest.approx(expected, rel=1e-5)
    times = random.integers(0, 3, (2, 2000)).astype(float)
    drawn = calibration.calibration_metrics(log_odds, labels, times)["slope"]
    for slope, weights in zip(drawn, times, strict=True):
        refitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
        refitted.fit(standard[:, None], labels, sample_weight=weights)
        assert slope == pytest.approx(refitted.coef_[0, 0] / spread, rel=1e-2), "groups of neighbours"


def test_a_steep_slope_over_a_small_overlap_is_that_of_an_independent_minimiser():
    x = np.array([-3.0, -2, -1, 0.01, -0.01, 1, 2, 3]) / 50
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])

    def log_loss(beta):
        return np.logaddexp(0, np.where(y, -1, 1) * (beta[0] + beta[1] * 50 * x)).sum()

    found = minimize(log_loss, [0, 1], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})
    assert calibration.calibration_metrics(x, y)["slope"][0] == pytest.approx(found.x[1] * 50, rel=1e-5)


@pytest.mark.parametrize("x", [[-1.0, 0, 0, 1], [1.0, 0, 0, -1], [0.3, 0.3, 0.3, 0.3]])
def test_classes_that_meet_in_one_score_alone_have_no_slope(x):
    assert np.isnan(calibration.calibration_metrics(np.array(x), np.array([0, 0, 1, 1]))["slope"][0])


@pytest.mark.parametrize("n_positive", [6, 40, 1500])
def test_the_interval_of_a_slope_holds_it_however_rare_positives_are(n_positive):
    """All positives may lie in one rank group of a large test split."""
    random = np.random.default_rng(n_positive)
    y = (np.arange(12_000) < n_positive).astype(int)
    x = random.normal(-6, 1, 12_000) + 4 * y
    whole = calibration.calibration_metrics(x, y)["slope"][0]
    ones = calibration.calibration_metrics(x, y, np.ones((2, 12_000)))["slope"]
    assert ones == pytest.approx(whole, rel=0.01)


def test_one_class_is_no_reason_to_scale():
    assert calibration.platt_scaling(np.array([0.4, 0.1]), np.array([1, 1])) == UNSCALED
