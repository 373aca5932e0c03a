"""The report on a study, from trials made by hand."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sampled_studies import on_known_surface

from pneumo.display import pages
from pneumo.sweep import labels
from pneumo.sweep.importance import importance, importance_spread
from pneumo.sweep.summary import best_first, expected_by_chance, saved_seconds, summary

DESIGN = {
    "recipes": {"report": {"lr": 1}},
    "questions": [
        {"concluded": "1 lower", "tested": "1 -> 2", "before": {}, "after": {"lr": 2}},
        {"concluded": "time", "tested": "1 -> 2", "before": {}, "after": {"lr": 2}, "outcome": "seconds"},
    ],
    "seeds": 3,
    "fixed": [],
    "leaves_out": [],  # stored by older versions
}
ARMS = ["report", "report: lr=2"]


def designed(seconds_after, auroc_after):
    """Seeds of both arms; those before are .5, .6, .7 after 10 seconds each."""
    study = optuna.create_study(direction="maximize", study_name="designed")
    study.set_user_attr("design", DESIGN)
    study.set_user_attr("n_trials", 6)
    axes = {"arm": CategoricalDistribution(ARMS), "seed": CategoricalDistribution([0, 1, 2])}
    for seed, after in enumerate(auroc_after):
        for arm, auroc, seconds in ((ARMS[0], 0.5 + seed / 10, 10), (ARMS[1], after, seconds_after)):
            metrics = {
                "last/val_auroc": auroc,
                "best/val_auroc": auroc,
                "fit_seconds": seconds + seed / 10,
                "findings/val_loss_jump": 0.1,
                "findings/train_minus_val_accuracy": 0.0,
            }
            study.add_trial(
                create_trial(
                    params={"arm": arm, "seed": seed},
                    distributions=axes,
                    value=auroc,
                    user_attrs={"figures": metrics},
                )
            )
    return study


def searched():
    study = optuna.create_study(direction="maximize", study_name="searched")
    study.set_user_attr("objective", ["val/auroc"])
    study.set_user_attr("n_trials", 9)
    for number in range(8):
        lr = 10 ** (-4 + number / 4)
        study.add_trial(
            create_trial(
                params={"optimizer.lr": lr, "loss": "bce" if number % 2 else "ce"},
                distributions={
                    "optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
                    "loss": CategoricalDistribution(["bce", "ce"]),
                },
                value=0.9 - (number - 5) ** 2 / 100,
                intermediate_values={1: 0.5, 2: 0.9 - (number - 5) ** 2 / 100},
                state=TrialState.PRUNED if number == 0 else TrialState.COMPLETE,
                user_attrs={"epochs": 6, "run_id": "a" * 32},
            )
        )
    return study


def table_of(sections, title):
    (found,) = [section for section in sections if section.title == title]
    return found


def test_a_clear_effect_has_its_interval_and_its_verdict():
    found = table_of(summary(designed(20, [0.61, 0.70, 0.80])), "The report's conclusions")
    assert found.rows[0] == ["1 lower", "1 -> 2", "+.103 (+.089, +.118)", "helps", "helps"]
    assert found.rows[1][2].startswith("x 1.99 (")
    assert found.rows[1][3] == "costs time"
    assert "smallest effect it could have seen" in " ".join(found.text)


def test_an_effect_that_may_be_none_is_no_evidence():
    found = table_of(summary(designed(10, [0.61, 0.55, 0.75])), "The report's conclusions")
    assert [row[-2:] for row in found.rows] == [["no evidence"] * 2] * 2


def test_a_verdict_that_is_not_significant_over_all_questions_is_dropped_after_holm():
    # differences .1, .12, .18: t = 5.55, p = .031; beside the seconds' p of 1 twice as large, above .05
    found = table_of(summary(designed(10, [0.6, 0.72, 0.88])), "The report's conclusions")
    assert found.columns[-2:] == ["verdict", "after Holm"]
    assert [row[-2:] for row in found.rows] == [["helps", "no evidence"], ["no evidence", "no evidence"]]


@pytest.mark.parametrize(("n", "expected"), [(2, "0.1"), (3, "0.15"), (26, "1.3"), (40, "2")])
def test_the_number_of_verdicts_expected_by_chance_follows_from_the_number_of_intervals(n, expected):
    assert f"Of {n} intervals, 5%, that is {expected}, are expected" in expected_by_chance(n)


def test_only_intervals_that_are_there_count():
    found = table_of(summary(designed(10, [0.61, 0.55, 0.75])), "The report's conclusions")
    assert "Of 2 intervals, 5%, that is 0.1, are" in " ".join(found.text)


def test_an_unfinished_design_says_so_and_how_many_pairs_it_has():
    sections = summary(designed(10, [0.61, 0.72]))
    assert sections[0].text[0].startswith("UNFINISHED: 4 of 6 trials done")
    assert "2 of 3 seeds" in table_of(sections, "The report's conclusions").rows[0][2]
    nothing = table_of(summary(designed(10, [])), "The report's conclusions")
    assert nothing.rows[0][2:] == ["not run yet", "not known yet", "not known yet"]
    assert "by chance" not in " ".join(nothing.text)


def test_the_best_come_first_and_copies_and_pruned_ones_are_left_out():
    assert [trial.number for trial in best_first(searched())] == [5, 4, 6, 3, 7, 2, 1]


def test_pruning_saves_the_epochs_that_were_not_run():
    pruned = searched().trials[0]
    pruned.datetime_complete = pruned.datetime_start.replace(year=pruned.datetime_start.year)
    assert saved_seconds([pruned]) == pytest.approx(labels.seconds(pruned) / 2 * 4)


def test_what_mattered_adds_up_and_waits_for_enough_trials():
    shares = importance(searched())
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "optimizer.lr"
    assert importance(optuna.create_study()) == {}


def test_the_spread_of_what_mattered_is_of_halves_and_waits_for_enough_trials():
    assert importance_spread(searched()) == {}  # 7 complete trials
    spread = importance_spread(on_known_surface(60, height=0.4))
    assert spread["optimizer.lr"][0] > spread["fit.accumulation_steps"][1], "the rate matters most"
    assert all(0 <= low < high <= 1 for low, high in spread.values())
    assert importance_spread(on_known_surface(60, height=0.4)) == spread, "the halves are the same each time"


def test_markdown_keeps_a_table_a_table():
    text = pages.markdown(summary(searched()))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    assert "a|b" not in pages.markdown([pages.Section("", [], ["column"], [["a|b"]])])


def test_parameters_read_as_a_person_would_say_them():
    values = {"optimizer.lr": 1e-3, "fit.accumulation_steps": 2, "fit.batch_size": 6, "loss": "ce"}
    assert labels.parameters(values) == "lr 1e-3 · batch 6 x 2 · ce"
    assert labels.parameters({"model.dropout": 0.25, "fit.batch_size": 6}) == "dropout 0.25 · batch size 6"
