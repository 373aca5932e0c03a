"""Answers of a designed study, from trials made by hand."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from pneumo.display import pages
from pneumo.sweep.design.ablation import stored_design
from pneumo.sweep.design.conclusions import answers
from pneumo.sweep.design.findings import sentences
from pneumo.sweep.design.page import rate_cell, without_result
from pneumo.sweep.pages.importance import importance
from pneumo.sweep.summary import summary

QUESTIONS = [
    {"concluded": "5 larger batch", "tested": "6 → 48", "before": {}, "after": {"fit.batch_size": 48}},
    {
        "concluded": "5 larger batch, for the time",
        "tested": "by seconds",
        "outcome": "seconds",
        "own_rates": False,
        "before": {},
        "after": {"fit.batch_size": 48},
    },
    {
        "concluded": "rate x batch",
        "tested": "",
        "before": {"optimizer.lr": 1e-3},
        "after": {"optimizer.lr": 1e-2},
        "interacts_with": {"fit.batch_size": 48},
    },
]
DESIGN = {
    "recipes": {"report": {"optimizer": "sgd", "optimizer.lr": 1e-3, "fit.batch_size": 6}},
    "questions": QUESTIONS,
    "seeds": 4,
    "fixed": [],
    "tuning_seeds": 1,
    "rates": {"sgd": [1e-3, 1e-2]},
    "styles": ["default", "crisp"],
}
BASE, BATCH = "report", "report: fit.batch_size=48"
HIGH, BOTH = "report: optimizer.lr=0.01", "report: optimizer.lr=0.01 fit.batch_size=48"
NOISE = np.array([-0.010, 0.010, -0.005, 0.005])
SPREAD = NOISE - 0.002 * np.array([1, -1, 1, -1])  # of the other side, so that pairs differ a little


def studied(same=-0.2, own=0.0, seconds=0.5, interaction=0.1):
    """Four seeds: a batch of 48 changes the AUROC of .7 by `same`, at its own rate that of .8 by `own`, and
    takes `seconds` times as long."""
    study = optuna.create_study(direction="maximize", study_name="conclusions")
    study.set_user_attr("design", DESIGN)
    study.set_user_attr("chosen_rates", {BASE: 1e-3, BATCH: 1e-2})
    study.set_user_attr("n_trials", 26)
    values = {
        (BASE, "same"): 0.7,
        (BATCH, "same"): 0.7 + same,
        (BASE, "own"): 0.8,
        (BATCH, "own"): 0.8 + own,
        (HIGH, "same"): 0.6,
        (BOTH, "same"): 0.6 + same + interaction,
    }
    for (arm, rate), value in values.items():
        for seed, noise in enumerate(SPREAD if arm in (BATCH, BOTH) else NOISE):
            add(study, arm, rate, seed, value + noise, seconds * 100 if arm == BATCH else 100)
    add(study, BASE, "0.001", 100, 0.75)
    add(study, BASE, "0.01", 100, 0.55)
    return study


def add(study, arm, rate, seed, auroc, seconds=100.0, state=TrialState.COMPLETE, failure=""):
    axes = {
        "arm": [BASE, BATCH, HIGH, BOTH],
        "seed": [0, 1, 2, 3, 100],
        "rate": ["0.001", "0.01", "same", "own"],
    }
    metrics = {
        "last/val_auroc": auroc,
        "best/val_auroc": auroc,
        "fit_seconds": seconds,
        "findings/val_loss_jump": 0.1,
        "findings/train_minus_val_accuracy": 0.0,
    }
    study.add_trial(
        create_trial(
            params={"arm": arm, "seed": seed, "rate": rate},
            distributions={name: CategoricalDistribution(choices) for name, choices in axes.items()},
            value=auroc if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
            state=state,
            intermediate_values={1: 0.5, 2: auroc},
            user_attrs={"figures": metrics, "epochs": 2, **({"failure": failure} if failure else {})},
        )
    )


def found(study):
    return {(a.name, a.rate): a for a in answers(study, stored_design(study))}


def test_a_change_may_hurt_at_the_same_rate_and_make_no_difference_at_its_own():
    both = found(studied())
    same, own = both["5 larger batch", "same"], both["5 larger batch", "own"]
    assert (same.verdict, own.verdict) == ("hurts", "equivalent")
    assert same.effect.mean == pytest.approx(-0.2)
    assert same.effect.low == pytest.approx(-0.2 - 3.182 * 0.00231 / 2, abs=1e-4)  # t of 3 degrees of freedom
    assert same.levels == pytest.approx((0.7, 0.5))
    assert (same.rates, own.rates) == ((1e-3, 1e-3), (1e-3, 1e-2))
    assert own.needs_other_rate
    assert not same.needs_other_rate


def test_a_question_about_the_rate_is_answered_at_its_rates_alone():
    assert ("rate x batch", "own") not in found(studied())


def test_an_interaction_is_the_difference_of_two_changes():
    # 1e-3 → 1e-2 changes .7 to .6, and with a batch of 48 .5 to .5
    answer = found(studied())["rate x batch", "same"]
    assert answer.effect.mean == pytest.approx(0.1)
    assert answer.levels == pytest.approx((-0.1, 0.0))


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.5, "saves time"), (2.0, "costs time"), (1.05, "equivalent"), (0.95, "equivalent")],
)
def test_seconds_are_a_factor(factor, verdict):
    answer = found(studied(seconds=factor))["5 larger batch, for the time", "same"]
    assert answer.effect.mean == pytest.approx(factor)
    assert answer.verdict == verdict


def test_a_small_effect_with_a_wide_interval_is_no_evidence_not_equivalence():
    study = studied(own=0.0)
    for seed, value in enumerate((0.75, 0.85, 0.76, 0.86)):
        add(study, BATCH, "own", seed, value)  # a later trial of the same seed counts
    assert found(study)["5 larger batch", "own"].verdict == "no evidence"


def test_the_p_values_of_all_answers_are_adjusted_together():
    every = answers(studied(), stored_design(studied()))
    raw = sorted(answer.effect.p for answer in every)
    adjusted = sorted(answer.adjusted_p for answer in every)
    assert adjusted[0] == pytest.approx(len(raw) * raw[0])


def test_each_style_has_its_own_mean():
    assert found(studied())["5 larger batch", "same"].by_style == pytest.approx(
        {"default": -0.202, "crisp": -0.198}
    )


def test_sentences_say_what_hurts_and_that_it_wants_another_rate():
    texts = sentences(answers(studied(interaction=0.0), stored_design(studied())))
    assert texts[0] == (
        "On the report recipe (AUROC .700) nothing is shown to help; 1 of 1 changes makes no difference "
        "(within ± .02)."
    )
    assert texts[1] == (
        "With each side at its own best learning rate, verdicts change: larger batch on the report recipe "
        "needs 1e-2 instead of 1e-3 (-.200 becomes +.000, hurts becomes equivalent)."
    )
    assert texts[2].startswith("On 0 of 3 comparisons there is no evidence either way")


def test_sentences_claim_nothing_that_no_interval_carries():
    study = studied(same=0.0, own=0.0)
    for seed, value in enumerate((0.9, 0.5, 0.95, 0.52)):
        add(study, BATCH, "same", seed, value)
    texts = " ".join(sentences(answers(study, stored_design(study))))
    assert "larger batch (" not in texts


def test_intervals_without_0_that_fail_the_adjustment_are_counted_not_claimed():
    study = studied(same=0.0)
    for seed, change in enumerate((0.02, 0.06, 0.05, 0.09)):
        add(study, BATCH, "own", seed, 0.8 + NOISE[seed] + change)
    texts = sentences(answers(study, stored_design(study)))
    assert "nothing is shown to help" in texts[0]
    assert texts[2].startswith(
        "On 1 of 3 comparisons there is no evidence either way; 1 of these has a 95% interval that "
        "excludes 0, as 0.2 would by chance, without being significant after Holm's correction"
    )


@pytest.mark.parametrize(("values", "cell"), [([0.9, 0.95], ".925"), ([0.957], ".957 (1 of 2)"), ([], "")])
def test_a_rate_with_a_result_of_some_seeds_alone_says_so(values, cell):
    assert rate_cell(values, 2) == cell


@pytest.mark.parametrize(
    ("ended", "cell"),
    [
        ([], "not run yet"),
        ([("RUNNING", "")], "not run yet"),
        ([("FAIL", "crash"), ("WAITING", "")], "not run yet"),  # it is tried again
        ([("FAIL", "non-finite")], "failed"),
        ([("PRUNED", "out of memory")], "failed"),
        ([("PRUNED", ""), ("FAIL", "non-finite")], "stopped"),
    ],
)
def test_a_rate_without_a_result_says_why(ended, cell):
    study = optuna.create_study(direction="maximize")
    for state, failure in ended:
        add(study, BASE, "0.01", 100, 0.5, state=TrialState[state], failure=failure)
    add(study, BASE, "0.001", 100, 0.5, state=TrialState.PRUNED)  # another rate
    add(study, BATCH, "0.01", 100, 0.5, state=TrialState.PRUNED)  # another arm
    assert without_result(study.trials, BASE, 0.01) == cell


def test_the_page_has_a_forest_plot_and_says_all_in_tables_too():
    sections = summary(studied())
    titles = [section.title for section in sections]
    assert titles == [
        "Study conclusions",
        "What helps",
        "Every answer",
        "What else changed",
        "Learning rates",
        "Curves of each pair",
    ]
    assert all(section.folded for section in sections[2:])
    assert sections[2].rows[0] == [
        "5 larger batch",
        "6 → 48",
        "report",
        "the same",
        ".700 → .500",
        "-.200 (-.204, -.196)",
        "default -.202 · crisp -.198",
        ".000",
        "hurts",
    ]
    assert sections[4].rows[0] == ["report", "1e-3", ".750", ".550"]
    page = pages.html(sections)
    assert page.count('class="chart"') == 2
    assert page.count("plotly.js v") == 1
    assert len(page) < 6e6


def test_a_design_of_an_older_version_is_still_shown():
    study = optuna.create_study(direction="maximize", study_name="older")
    older = {name: DESIGN[name] for name in ("recipes", "seeds", "fixed")}
    study.set_user_attr("design", {**older, "questions": QUESTIONS[:2], "leaves_out": []})
    axes = {"arm": [BASE, BATCH], "seed": [0, 1, 2, 3]}
    for arm, change in ((BASE, 0.0), (BATCH, -0.2)):
        for seed, noise in enumerate(SPREAD if arm == BATCH else NOISE):
            study.add_trial(
                create_trial(
                    params={"arm": arm, "seed": seed},
                    distributions={name: CategoricalDistribution(choices) for name, choices in axes.items()},
                    value=0.7,
                    user_attrs={"figures": {"last/val_auroc": 0.7 + change + noise, "fit_seconds": 10.0}},
                )
            )
    assert [answer.verdict for answer in answers(study, stored_design(study))] == ["hurts", "equivalent"]


def test_the_importance_of_arms_is_not_computed():
    assert importance(studied()) == {}


def test_before_two_pairs_there_is_no_answer():
    study = optuna.create_study(direction="maximize", study_name="conclusions")
    study.set_user_attr("design", DESIGN)
    found = answers(study, stored_design(study))
    assert {answer.verdict for answer in found} == {"not known yet"}
    assert sentences(found) == ["Nothing can be said before two pairs of runs are complete."]
    assert pages.html(summary(study))
