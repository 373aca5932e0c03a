"""An evaluation's figures, by hand and by scikit-learn."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
    roc_curve,
)

from pneumo.display import pages
from pneumo.evaluation import report, results, subgroups
from pneumo.evaluation.platt import PlattScaling
from pneumo.evaluation.results import Evaluation, LogOddsPredictions

RANDOM = np.random.default_rng(0)


def sample(n=400, shift=1.5):
    labels = (RANDOM.random(n) < 0.3).astype(int)
    log_odds, patients = RANDOM.normal(-1, 1, n) + shift * labels, RANDOM.integers(0, n // 2, n)
    return LogOddsPredictions(labels, log_odds, patients, 0.2, PlattScaling(0.7, 0.1))


def test_the_figures_are_scikit_learn_s():
    predictions = sample()
    found = Evaluation.of(predictions, draws=5).metrics
    y, x = predictions.labels, predictions.log_odds
    false_alarms, hits, _ = roc_curve(y, x, drop_intermediate=False)
    tn, fp, fn, tp = confusion_matrix(y, x >= 0.2).ravel()
    expected = {
        "auroc": roc_auc_score(y, x),
        "auprc": average_precision_score(y, x),
        "brier": brier_score_loss(y, expit(x)),
        "calibrated_brier": brier_score_loss(y, expit(0.7 * x + 0.1)),
        "recall": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "precision": tp / (tp + fp),
        **{
            f"sensitivity_at_{s}_specificity": hits[false_alarms <= 1 - s / 100 + 1e-12].max()
            for s in (80, 90, 95)
        },
        **{
            f"specificity_at_{s}_sensitivity": 1 - false_alarms[hits >= s / 100 - 1e-12].min()
            for s in (80, 90, 95)
        },
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_predictive_values_by_hand():
    """1,000 patients, 50 ill: of them 40 found; of 950 healthy 95 called ill."""
    ppv, npv = results.predictive_values(np.array([0.8]), np.array([0.9]), 0.05)
    assert ppv[0] == pytest.approx(40 / 135)
    assert npv[0] == pytest.approx(855 / 865)


def test_intervals_hold_their_figures_and_calibrated_ones_keep_the_ranking():
    predictions = sample()
    found = Evaluation.of(predictions, draws=200)
    for name, (low, high) in found.intervals.items():
        if name not in ("ece", "calibrated_ece"):  # resampling adds to a sum of absolute gaps
            assert low <= found.metrics[name] <= high, name
    assert found.metrics["calibrated_slope"] == pytest.approx(found.metrics["slope"] / 0.7)
    named = found.named("eval/test")
    assert named["eval/test/auroc_low"] < named["eval/test/auroc"] < named["eval/test/auroc_high"]


def test_two_models_are_compared_on_the_same_patients():
    good, labels = sample(600), None
    labels = good.labels
    worse = LogOddsPredictions(labels, good.log_odds + RANDOM.normal(0, 2, 600), good.patients, 0.0)
    found = results.compare_auroc(worse, good, draws=400)
    assert found.aurocs[1] - found.aurocs[0] == pytest.approx(found.by_delong.value)
    assert 0 < found.by_patients[0] < found.by_delong.value < found.by_patients[1]
    itself = results.compare_auroc(good, good, draws=50)
    assert itself.by_patients == (0, 0)
    assert itself.by_delong.p == 1


def test_subgroups_hold_whom_they_name():
    predictions = sample(300)
    labels = predictions.labels
    table = pd.DataFrame(
        {
            "lesion_share": np.where(labels == 1, RANDOM.choice([0.004, 0.01, 0.1], 300), np.nan),
            "view": RANDOM.choice(["AP", "PA", None], 300),
            "style": np.repeat(["faint", "soft"], 150),
            "age": RANDOM.choice([10, 30, 50, 70, np.nan], 300),
            "hard_negative": (labels == 0) & (RANDOM.random(300) < 0.2),
        }
    )
    found = {(kind, name): rows for kind, name, rows in subgroups.groups(table, labels)}
    small = found["lesion", "small, up to 0.51%"]
    assert small[labels == 0].all()
    assert (small[labels == 1] == (table["lesion_share"] == 0.004).to_numpy()[labels == 1]).all()
    assert (found["view", "AP"] == (table["view"] == "AP").to_numpy()).all()
    assert (found["style", "soft"] == (np.arange(300) >= 150)).all()
    assert sum(rows.sum() for (kind, _), rows in found.items() if kind == "age") == table["age"].notna().sum()
    hard, others = found["negatives", "hard ones"], found["negatives", "others"]
    assert (hard & others == (labels == 1)).all()
    assert (hard | others).all()
    for one in subgroups.subgroups(predictions, table, draws=50):
        assert one.n_images == found[one.kind, one.name].sum()


def test_a_group_of_few_patients_has_no_verdict_and_a_bad_one_is_called_lower():
    n = 400
    labels = np.arange(n) % 2
    view = np.where(np.arange(n) < 12, "AP", np.where(np.arange(n) < 200, "PA", "LL"))
    log_odds = np.where(view == "LL", RANDOM.normal(size=n), labels + RANDOM.normal(0, 0.3, n))
    view[-3:-1], labels[-3:-1] = "OB", 0
    predictions = LogOddsPredictions(labels, log_odds, np.arange(n), 0.5)
    found = {
        one.name: one for one in subgroups.subgroups(predictions, pd.DataFrame({"view": view}), draws=300)
    }
    assert found["AP"].verdict == "only 6 patients of a class"
    assert found["LL"].verdict == "lower"
    assert found["PA"].verdict == "higher"
    assert (found["OB"].n_images, found["OB"].verdict) == (2, "none is positive")
    evaluation_ = Evaluation.of(predictions, draws=20)
    content = json.loads(report.as_json(evaluation_, list(found.values())), parse_constant=pytest.fail)
    assert content["subgroups"][2]["metrics"]["auroc"] is None
    groups = report.sections(evaluation_, list(found.values()), "", [])[-1]
    assert groups.rows[2][3:5] == ["-", "-"]


def test_the_page_says_how_many_draws_were_left_out_of_an_interval():
    labels = np.array([1] * 5 + [0] * 5)
    log_odds = np.array([2.0, 1, 2, 2, 2, 1.5, -1, -2, -3, -3])
    found = Evaluation.of(LogOddsPredictions(labels, log_odds, np.arange(10), 0.0), draws=2000)
    drawn = np.random.default_rng(0).multinomial(10, np.full(10, 1 / 10), 2000)
    one_class = (drawn[:, :5].sum(axis=1) % 10 == 0).sum()  # none or all of the ten are positive
    assert found.left_out["f1"] == found.left_out["precision"] == found.left_out["auroc"] == one_class > 0
    assert found.left_out["accuracy"] == 0
    said = report.sections(found, [], "", [])[0].text[0]
    assert f"In up to {max(found.left_out.values()):,} of them a metric is not defined" in said
    assert "not defined" not in report.sections(Evaluation.of(sample(), draws=20), [], "", [])[0].text[0]


def test_with_few_patients_of_a_class_the_page_says_why_there_is_no_interval():
    labels = np.repeat([1, 0], [30, 30])
    patients = np.r_[np.repeat(np.arange(3), 10), np.arange(100, 130)]
    few = LogOddsPredictions(labels, np.linspace(2, -2, 60), patients, 0.0)
    sections = report.sections(Evaluation.of(few), [], "", [])
    assert "No intervals: only 3 positive patients, which are too few to resample." in sections[0].text[0]
    assert all(row[2] == "" for row in sections[1].rows)
    assert not any("DeLong" in line for line in sections[1].text)
    said = report.comparison(results.compare_auroc(few, few), ("a", "b"), "", True)
    assert said.text == ["No intervals: fewer than 5 patients of a class are too few to resample."]


def test_a_perfect_test_split_is_no_proof_of_a_predictive_value_of_1():
    """Of 12 and 60 patients none is called wrong: the specificity may be .940, and 1% be positive."""
    labels = (np.arange(72) < 12).astype(int)
    found = Evaluation.of(LogOddsPredictions(labels, 6.0 * labels - 3, np.arange(72), 0), draws=20)
    low_recall, low_specificity = 0.025 ** (1 / 12), 0.025 ** (1 / 60)
    assert found.metrics["ppv_at_1"] == 1
    true, false = 0.01 * low_recall, 0.99 * (1 - low_specificity)
    assert found.intervals["ppv_at_1"] == pytest.approx((true / (true + false), 1))
    assert np.isnan(found.delong).all(), "DeLong's variance of an AUROC of 1 is 0"


def test_a_subgroup_that_happens_to_be_ranked_without_error_is_not_called_higher():
    labels = np.tile([1, 0], 20)
    best = LogOddsPredictions(labels, labels * 2.0, np.arange(40), 1)
    assert subgroups.evaluate_subgroup("sex", "F", best, 0.95, draws=20).verdict == "like all"


def test_without_patients_no_line_speaks_of_them():
    predictions = replace(sample(), patients_known=False)
    table = pd.DataFrame({"sex": np.where(RANDOM.random(400) < 0.5, "F", "M")})
    groups = subgroups.subgroups(predictions, table, draws=20)
    sections = report.sections(Evaluation.of(predictions, draws=20), groups, "", [])
    sections.append(report.comparison(results.compare_auroc(predictions, predictions), ("a", "b"), "", False))
    said = pages.markdown(sections)
    assert "patients resampled" not in said
    assert "(patients)" not in said
    assert "images resampled" in said
