"""How an arm of a design gets a learning rate of its own."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from pneumo.errors import InputError
from pneumo.sweep.design.ablation import build_design
from pneumo.sweep.design.rates import RatePruner, UndecidedError, best_rate, tried_rates, with_rate
from pneumo.sweep.storage import open_study

SPEC = {
    "seeds": 2,
    "tuning_seeds": 2,
    "needs": {},
    "styles": {"phantom": ["default", "crisp"]},
    "rates": {"sgd": [1e-3, 1e-2, 1e-1], "adamw": [1e-4, 1e-3]},
    "recipes": {"report": {"optimizer": "sgd", "optimizer.lr": 1e-3, "fit.batch_size": 6}},
    "questions": [
        {"concluded": "batch", "tested": "", "before": {}, "after": {"fit.batch_size": 48}},
        {"concluded": "lower", "tested": "", "before": {}, "after": {"optimizer.lr": 1e-4}},
        {
            "concluded": "both",
            "tested": "",
            "before": {"optimizer.lr": 1e-3},
            "after": {"optimizer.lr": 1e-2},
            "interacts_with": {"fit.batch_size": 48},
        },
    ],
}
RATES = ["0.001", "0.01", "0.1", "same", "own"]


def tuning(arm, seed, rate, values, state=TrialState.COMPLETE):
    """A trial with a val AUROC for each epoch, of nine."""
    axes = {"arm": ["report", "other"], "seed": [0, 100, 101], "rate": RATES}
    return create_trial(
        params={"arm": arm, "seed": seed, "rate": rate},
        distributions={name: CategoricalDistribution(choices) for name, choices in axes.items()},
        value=values[-1],
        intermediate_values=dict(enumerate(values, start=1)),
        state=state,
        user_attrs={"epochs": 9, "figures": {"last/val_auroc": values[-1]}},
    )


def study_of(*trials):
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def test_arms_of_questions_about_the_rate_or_an_interaction_choose_none():
    design = build_design(SPEC, [], "phantom")
    assert design.tuned_arms == ["report", "report: fit.batch_size=48"]
    assert "report: optimizer.lr=0.01 fit.batch_size=48" in design.arms


def test_rates_are_those_of_the_arms_optimizer_the_middle_one_first():
    assert build_design(SPEC, [], "phantom").rates_of("report") == [1e-2, 1e-3, 1e-1]
    assert build_design(SPEC, ["optimizer=adamw"], "phantom").rates_of("report") == [1e-4, 1e-3]


def test_rates_are_chosen_before_anything_is_judged_and_by_seeds_that_judge_nothing():
    queue = build_design(SPEC, [], "phantom").queue
    tried = [values for values in queue if values["rate"] not in ("same", "own")]
    assert tried == queue[: 2 * 2 * 3]
    assert {values["seed"] for values in tried}.isdisjoint(
        values["seed"] for values in queue if values not in tried
    )


def test_seeds_take_turns_in_the_styles_unless_one_is_given():
    design = build_design(SPEC, [], "phantom")
    styles = [
        word
        for seed in range(3)
        for word in design.overrides({"arm": "report", "seed": seed, "rate": "same"})
        if word.startswith("data.style")
    ]
    assert styles == ["data.style=default", "data.style=crisp", "data.style=default"]
    fixed = build_design(SPEC, ["data.style=soft"], "phantom")
    assert fixed.overrides({"arm": "report", "seed": 1})[0] == "data.style=soft"
    assert not build_design(SPEC, [], "siim_png").styles


def test_a_tried_rate_replaces_the_recipes():
    design = build_design(SPEC, [], "phantom")
    assert "optimizer.lr=0.1" in design.overrides({"arm": "report", "seed": 100, "rate": "0.1"})
    assert "optimizer.lr=0.001" in design.overrides({"arm": "report", "seed": 0, "rate": "same"})


def test_the_best_rate_is_the_best_mean_over_all_seeds_that_choose():
    trials = [
        tuning("report", 100, "0.001", [0.70]),
        tuning("report", 101, "0.001", [0.70]),
        tuning("report", 100, "0.01", [0.90]),  # 0.01 was stopped early with the other seed
        tuning("report", 101, "0.01", [0.40], TrialState.PRUNED),
        tuning("report", 100, "0.1", [0.60]),
        tuning("report", 101, "0.1", [0.75]),
        tuning("other", 100, "0.1", [0.99]),
        tuning("report", 0, "same", [0.99]),
    ]
    assert tried_rates(trials, "report") == {0.001: [0.70, 0.70], 0.01: [0.90], 0.1: [0.60, 0.75]}
    assert best_rate(trials, "report") == 0.001
    assert best_rate(trials[6:7], "report") is None


def test_the_first_trial_that_needs_an_arms_own_rate_decides_for_all(tmp_path):
    storage = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"])
    own = {"arm": "report", "seed": 0, "rate": "own"}
    with pytest.raises(InputError, match="report: with none of its learning rates a training ended"):
        with_rate(storage, own)
    storage.study.add_trial(tuning("report", 100, "0.01", [0.8]))
    assert with_rate(storage, own)["rate"] == "0.01"
    storage.study.add_trial(tuning("report", 100, "0.1", [0.9]))
    assert with_rate(storage, own)["rate"] == "0.01"
    assert with_rate(storage, {**own, "rate": "same"})["rate"] == "same"
    storage.close()


def test_a_rate_is_not_chosen_while_a_training_that_it_is_chosen_by_is_running(tmp_path):
    storage = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"])
    storage.study.add_trial(tuning("report", 100, "0.01", [0.8]))
    storage.study.enqueue_trial({"arm": "report", "seed": 100, "rate": "0.1"})
    running = storage.claim_trial(10, lambda n: optuna.samplers.RandomSampler())
    own = {"arm": "report", "seed": 0, "rate": "own"}
    with pytest.raises(UndecidedError):
        with_rate(storage, own)
    storage.fail_trial(running.number, "configuration", "")
    assert with_rate(storage, own)["rate"] == "0.01"
    storage.close()


@pytest.mark.parametrize(
    ("arm", "seed", "rate", "values", "stopped"),
    [
        ("report", 100, "0.01", [0.5, 0.5, 0.5], True),  # .6 was reached by then with the other rate
        ("report", 100, "0.01", [0.5, 0.5, 0.56], False),  # not clearly behind
        ("report", 100, "0.01", [0.5, 0.5, 0.7], False),
        ("report", 100, "0.01", [0.5, 0.5], False),  # before a third of the epochs
        ("report", 101, "0.01", [0.5, 0.5, 0.5], False),  # another seed
        ("other", 100, "0.01", [0.5, 0.5, 0.5], False),
        ("report", 100, "same", [0.5, 0.5, 0.5], False),
    ],
)
def test_a_poor_rate_is_stopped_and_nothing_else(arm, seed, rate, values, stopped):
    study = study_of(tuning("report", 100, "0.001", [0.4, 0.6, 0.6, 0.9]))
    assert RatePruner().prune(study, tuning(arm, seed, rate, values)) == stopped
