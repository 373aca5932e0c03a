"""The report on a study, from trials made by hand."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sampled_studies import add, on_known_surface, with_duplicate

from pneumo.display import pages
from pneumo.sweep import labels
from pneumo.sweep.pages.importance import importance, importance_spread
from pneumo.sweep.summary import best_first, is_stopped_early, saved_seconds, summary


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


def test_the_best_come_first_and_copies_and_pruned_ones_are_left_out():
    assert [trial.number for trial in best_first(searched())] == [5, 4, 6, 3, 7, 2, 1]


def test_pruning_saves_the_epochs_that_were_not_run():
    pruned = searched().trials[0]
    pruned.datetime_complete = pruned.datetime_start.replace(year=pruned.datetime_start.year)
    assert saved_seconds([pruned]) == pytest.approx(labels.seconds(pruned) / 2 * 4)


def test_pruning_saves_nothing_of_a_trial_that_was_out_of_memory():
    pruned = searched().trials[0]
    pruned.user_attrs["failure"] = "out of memory"
    assert not is_stopped_early(pruned)
    assert saved_seconds([pruned]) == 0


def test_what_was_taken_over_counts_once_in_what_mattered():
    study, without = on_known_surface(12, height=0.4), on_known_surface(12, height=0.4)
    best = max(study.trials, key=lambda trial: trial.value)
    for _ in range(6):
        add(study, best.params["optimizer.lr"], best.values, duplicate_of=best.number)
    assert importance(study) == importance(without)
    assert importance_spread(study) == importance_spread(without)


def test_a_trial_that_took_over_a_result_is_not_on_the_pareto_front_besides():
    study = with_duplicate(["val/auroc", "fit_seconds"], ["maximize", "minimize"])
    front = table_of(summary(study), "Not beaten in every objective")
    assert [row[0] for row in front.rows] == ["#0", "#1"]


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
