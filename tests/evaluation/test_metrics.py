from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest
from sklearn import metrics as sk

from pneumo.evaluation import metrics, plots
from pneumo.evaluation.metric_names import METRICS
from pneumo.evaluation.metrics import Confusion, Ranking
from pneumo.evaluation.results import LogOddsPredictions, evaluation_metrics

TWO_CLASSES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.6, 0.99, 1.0])),
    min_size=2,
    max_size=60,
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def split_up(pairs):
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


@given(TWO_CLASSES)
def test_figures_agree_with_scikit_learn_also_with_ties(pairs):
    labels, scores = split_up(pairs)
    ours = metrics.compute_metrics(labels, scores, threshold=0.5)
    called = scores >= 0.5
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert ours["auprc"] == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels, called))
    assert ours["precision"] == pytest.approx(sk.precision_score(labels, called, zero_division=0))
    assert ours["recall"] == pytest.approx(sk.recall_score(labels, called))
    assert ours["f1"] == pytest.approx(sk.f1_score(labels, called, zero_division=0))
    assert ours["hard_auroc"] == pytest.approx(sk.roc_auc_score(labels, called), abs=1e-12)


@given(TWO_CLASSES, st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_sensitivity_at_a_specificity_is_the_best_of_all_thresholds(pairs, specificity):
    labels, scores = split_up(pairs)
    reached = [0.0]
    for threshold in scores:
        called = scores >= threshold
        if (~called[labels == 0]).mean() >= specificity - 1e-9:
            reached.append(called[labels == 1].mean())
    ours = metrics.sensitivity_at(Ranking.of(labels, scores), specificity)
    assert ours[0] == pytest.approx(max(reached))


def test_hand_worked_figures():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    ours = metrics.compute_metrics(labels, scores, threshold=0.75)
    assert ours["auroc"] == 0.75  # three of four pairs in order
    assert ours["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (ours["recall"], ours["specificity"], ours["precision"], ours["hard_auroc"]) == (0.5,) * 4


def test_the_reports_roc_auc_is_the_mean_of_sensitivity_and_specificity():
    # its normalised run on 8,440 training images: 5 true positives of 1,846, no false one
    labels = np.r_[np.ones(1846, int), np.zeros(6594, int)]
    answers = np.r_[np.ones(5), np.zeros(8435)]
    ours = metrics.compute_metrics(labels, answers)
    assert round(ours["accuracy"], 4) == 0.7819  # printed as .7818
    assert ours["precision"] == 1.0
    assert round(ours["recall"], 4) == 0.0027
    assert round(ours["f1"], 4) == 0.0054
    assert round(ours["hard_auroc"], 3) == 0.501


def test_weights_are_repetitions():
    random = np.random.default_rng(1)
    labels, scores = np.arange(30) % 2, random.random(30).round(1)
    times = random.integers(0, 4, 30)
    weighted = metrics.all_metrics(Ranking.of(labels, scores, times[None].astype(float)), 0.5)
    repeated = metrics.compute_metrics(labels.repeat(times), scores.repeat(times), 0.5)
    for name, value in repeated.items():
        assert weighted[name][0] == pytest.approx(value), name


def test_the_f1_threshold_is_the_best_and_lies_between_scores():
    random = np.random.default_rng(2)
    labels = (random.random(200) < 0.3).astype(int)
    scores = random.random(200) + 0.4 * labels
    threshold = metrics.best_f1_threshold(labels, scores)
    best = max(sk.f1_score(labels, scores >= t) for t in scores)
    assert sk.f1_score(labels, scores >= threshold) == pytest.approx(best)
    assert threshold not in scores


def test_the_bootstrap_agrees_with_a_naive_loop_over_patients():
    random = np.random.default_rng(3)
    patients = random.integers(0, 40, 150)
    labels = ((patients % 4 == 0) ^ (random.random(150) < 0.1)).astype(int)
    scores = labels * 0.5 + random.random(150)
    ours = metrics.bootstrap_intervals(labels, scores, patients, 0.5, draws=4000, seed=1)["auroc"]
    naive = []
    groups = [np.flatnonzero(patients == p) for p in np.unique(patients)]
    for _ in range(1500):
        rows = np.concatenate([groups[i] for i in random.integers(0, len(groups), len(groups))])
        naive.append(sk.roc_auc_score(labels[rows], scores[rows]))
    assert ours == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.012)


def test_intervals_are_wider_when_one_patient_has_many_images():
    random = np.random.default_rng(4)
    truth = np.repeat(random.random(30) < 0.5, 10).astype(int)
    scores = np.repeat(random.random(30), 10) + truth * 0.3 + random.random(300) * 0.01
    width = {
        name: np.ptp(metrics.bootstrap_intervals(truth, scores, patients, 0.5)["auroc"])
        for name, patients in {"patients": np.repeat(np.arange(30), 10), "images": np.arange(300)}.items()
    }
    assert width["patients"] > 2 * width["images"]


def test_the_same_seed_gives_the_same_interval():
    labels, scores, patients = np.arange(60) % 2, np.linspace(0, 1, 60), np.arange(60) // 3
    first, second = (metrics.bootstrap_intervals(labels, scores, patients, 0.5, seed=7) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("called", "positive", "images", "collapsed"),
    [
        (5, 1846, 8440, True),  # the report, normalised
        (186, 1846, 8440, True),  # the report, not normalised
        (331, 1846, 8440, True),  # the report, plateau
        (845, 1846, 8440, False),  # the report, fine-tuned
        (8440, 1846, 8440, True),
        (0, 20, 1000, True),
        (15, 20, 1000, False),  # a rare finding, called about as rarely as it is there
    ],
)
def test_a_run_that_gives_one_answer_is_called_collapsed(called, positive, images, collapsed):
    labels = np.arange(images) < positive
    scores = (np.arange(images) < called) * 0.9
    assert metrics.calls_one_class(labels, scores) == collapsed


@pytest.mark.parametrize(("auroc", "prevalence", "share"), [(0.8, 0.05, 0.003), (0.7, 0.22, 0.035)])
def test_the_share_that_a_calibrated_model_calls_is_that_of_drawn_scores(auroc, prevalence, share):
    n, d = 1_000_000, 2**0.5 * NormalDist().inv_cdf(auroc)
    labels = np.arange(n) < n * prevalence
    evidence = np.random.default_rng(0).normal(d * labels, 1.0)
    scores = expit(d * evidence - d**2 / 2 + np.log(prevalence / (1 - prevalence)))
    assert sk.roc_auc_score(labels, scores) == pytest.approx(auroc, abs=0.002)
    assert scores[scores >= 0.5].mean() == pytest.approx(labels[scores >= 0.5].mean(), abs=0.02)  # calibrated
    assert (scores >= 0.5).mean() == pytest.approx(share, abs=0.0005)
    assert metrics.calibrated_share_called(auroc, prevalence) == pytest.approx(share, abs=0.0005)


def test_confusion_counts_add_up():
    random = np.random.default_rng(5)
    labels, scores = random.integers(0, 2, 50), random.random(50)
    chosen = Confusion.at(Ranking.of(labels, scores), 0.4)
    tn, fp, fn, tp = sk.confusion_matrix(labels, scores >= 0.4).ravel()
    assert [chosen.tn[0], chosen.fp[0], chosen.fn[0], chosen.tp[0]] == [tn, fp, fn, tp]


def test_reliability_of_a_calibrated_score_is_the_diagonal():
    random = np.random.default_rng(6)
    scores = random.random(20000)
    plot = plots.reliability((random.random(20000) < scores).astype(int), {"": scores}, "")
    predicted, observed = plot.axes[0].lines[1].get_data()
    assert len(predicted) == 10
    assert predicted == pytest.approx(observed, abs=0.04)


def test_every_metric_has_a_name():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.4, 0.6])
    predictions = LogOddsPredictions(labels, metrics.log_odds(scores), np.arange(4), 0.0)
    assert {key.removeprefix("calibrated_") for key in evaluation_metrics(predictions)} == METRICS.keys()


def test_a_draw_without_a_class_is_left_out_of_every_figure_that_needs_both():
    labels, scores = np.array([1, 0, 0]), np.array([0.9, 0.8, 0.1])
    draws = np.array([[1.0, 1, 1], [0, 2, 1], [3, 0, 0], [2, 0, 1]])  # whole, no positive, no negative, whole
    found = metrics.all_metrics(Ranking.of(labels, scores, draws), 0.5, resampled=True)
    by_hand = {
        "precision": [1 / 2, np.nan, np.nan, 1],
        "f1": [2 / 3, np.nan, np.nan, 1],
        "auroc": [1, np.nan, np.nan, 1],
        "auprc": [1, np.nan, np.nan, 1],
        "sensitivity_at_95_specificity": [1, np.nan, np.nan, 1],
        "hard_auroc": [3 / 4, np.nan, np.nan, 1],
        "recall": [1, np.nan, 1, 1],
        "specificity": [1 / 2, 1 / 3, np.nan, 1],
        "accuracy": [2 / 3, 1 / 3, 1, 1],
    }
    for name, values in by_hand.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    specificity = metrics.specificity_at(Ranking.of(labels, scores, draws), 0.9)
    np.testing.assert_allclose(specificity, [1, np.nan, np.nan, 1])


def test_a_draw_in_which_nothing_is_called_positive_has_no_precision_but_an_f1_of_0():
    labels, scores = np.array([1, 1, 0]), np.array([0.9, 0.2, 0.1])
    found = metrics.all_metrics(Ranking.of(labels, scores, np.array([[0.0, 2, 1]])), 0.5, resampled=True)
    assert np.isnan(found["precision"][0])
    assert (found["f1"][0], found["recall"][0], found["specificity"][0]) == (0, 0, 1)
    assert metrics.compute_metrics(labels[1:], scores[1:], 0.5)["precision"] == 0, (
        "of images, as scikit-learn has it"
    )


def test_an_interval_is_that_of_the_draws_in_which_the_figure_is_defined():
    # one positive image, found, and one false alarm; precision and F1 of a draw with both classes, by hand
    labels, scores, patients = np.array([1, 0, 0]), np.array([0.9, 0.8, 0.1]), np.arange(3)
    precision, f1 = [], []
    generator = np.random.default_rng(5)
    for _ in range(2000):
        found, alarms, cleared = generator.multinomial(3, [1 / 3] * 3)
        if found and alarms + cleared:
            precision.append(found / (found + alarms))
            f1.append(2 * found / (2 * found + alarms))
    intervals = metrics.percentile_intervals(
        patients,
        lambda drawn: metrics.all_metrics(Ranking.of(labels, scores, drawn), 0.5, resampled=True),
        draws=2000,
        seed=5,
    )
    assert intervals["precision"] == pytest.approx(np.quantile(precision, [0.025, 0.975]))
    assert intervals["f1"] == pytest.approx(np.quantile(f1, [0.025, 0.975]))
    assert intervals["precision"][0] > 0, "a draw without the positive image is no precision of 0"


@pytest.mark.parametrize(("positive", "negative"), [(4, 40), (40, 4), (1, 1)])
def test_fewer_than_five_patients_of_a_class_give_no_interval_whatever_their_images(positive, negative):
    patients = np.repeat(np.arange(positive + negative), 10)
    labels = (patients < positive).astype(int)
    intervals = metrics.bootstrap_intervals(labels, labels * 0.8, patients, 0.5)
    assert intervals.keys() == metrics.compute_metrics(labels, labels * 0.8).keys()
    assert np.isnan(list(intervals.values())).all()
    enough = metrics.bootstrap_intervals(*(np.tile([1, 0], 5), np.linspace(0, 1, 10), np.arange(10), 0.5))
    assert np.isfinite(enough["auroc"]).all()


def test_what_no_draw_can_show_has_the_exact_interval_of_its_patients():
    """Ten patients with positives and twenty without, two images each, all ranked and called right:
    1 - .025 ** (1 / 10) is .3085, as scipy.stats.binomtest(10, 10).proportion_ci() has it."""
    patients = np.repeat(np.arange(30), 2)
    labels = (patients < 10).astype(int)
    found = metrics.bootstrap_intervals(labels, labels * 1.0, patients, 0.5, draws=50)
    of_ten, of_twenty, of_thirty = (binomtest(n, n).proportion_ci() for n in (10, 20, 30))
    for name, (low, high) in {
        **dict.fromkeys(("recall", "sensitivity_at_95_specificity", "auroc", "f1"), of_ten),
        "specificity": of_twenty,
        "accuracy": of_thirty,
    }.items():
        assert found[name] == pytest.approx((low, high)), name
    never = metrics.bootstrap_intervals(labels, labels * 1.0, patients, 2.0, draws=50)["recall"]
    assert never == pytest.approx(binomtest(0, 10).proportion_ci())
