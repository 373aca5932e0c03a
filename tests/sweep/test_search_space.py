"""What a study searches, from YAML and from the command line."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pneumo.errors import InputError
from pneumo.sweep.search_space import build_space

GAMMA = {"loss.gamma": {"loss": ["focal"]}}
LR = {"optimizer.lr": "tag(log, interval(1e-4, 1e-1))"}


def space(always=LR, conditional=(), enqueue=(), typed=(), choices=None):
    return build_space(
        always, dict(conditional), GAMMA, list(enqueue), list(typed), choices or {"loss": "bce"}
    )


def draw(found, n=40):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for values in found.queue:
        study.enqueue_trial(values)
    return [found.suggest(study.ask()) for _ in range(n)]


def test_hydras_grammar_becomes_distributions():
    found = space(
        {
            "optimizer.lr": "tag(log, interval(1e-4, 1e-1))",
            "fit.batch_size": "choice(6, 16)",
            "fit.epochs": "range(1, 5)",
            "model.dropout": "interval(0.0, 0.5)",
        }
    ).parameters
    assert found["optimizer.lr"].distribution == FloatDistribution(1e-4, 1e-1, log=True)
    assert found["fit.batch_size"].distribution == CategoricalDistribution([6, 16])
    assert found["fit.epochs"].distribution == IntDistribution(1, 4)
    assert found["model.dropout"].distribution == FloatDistribution(0.0, 0.5)


def test_the_command_line_wins_over_the_search():
    found = space(typed=["optimizer.lr=interval(0.5,0.6)", "fit.epochs=3"])
    assert found.parameters["optimizer.lr"].distribution == FloatDistribution(0.5, 0.6)
    assert found.fixed == ["fit.epochs=3"]


def test_a_parameter_fixed_on_the_command_line_is_not_searched():
    found = space({**LR, "loss": "choice(ce, bce)"}, typed=["loss=ce"])
    assert "loss" not in found.parameters
    assert "loss=ce" in found.overrides({"optimizer.lr": 1e-3})


def test_a_conditional_parameter_is_drawn_where_it_exists_and_nowhere_else():
    found = space({"loss": "choice(bce, focal)"}, {"loss.gamma": "interval(0.5, 4.0)"})
    values = draw(found)
    assert {one["loss"] for one in values} == {"bce", "focal"}
    assert all(("loss.gamma" in one) == (one["loss"] == "focal") for one in values)


@pytest.mark.parametrize(("loss", "exists"), [("focal", True), ("bce", False)])
def test_a_condition_follows_a_loss_that_the_command_line_fixes(loss, exists):
    found = space(
        {**LR, "loss": "choice(bce, focal)"},
        {"loss.gamma": "interval(0.5, 4.0)"},
        typed=[f"loss={loss}"],
        choices={"loss": loss},
    )
    assert all(("loss.gamma" in one) == exists for one in draw(found, 5))


def test_a_conditional_parameter_that_the_command_line_fixes_is_set_where_it_exists():
    found = space(
        {"loss": "choice(bce, focal)"}, {"loss.gamma": "interval(0.5, 4.0)"}, typed=["++loss.gamma=2"]
    )
    assert found.fixed == []
    assert all(one.get("loss.gamma") == (2 if one["loss"] == "focal" else None) for one in draw(found))


@pytest.mark.parametrize("typed", ["loss.gamma=interval(0.5,4)", "loss.gamma=1,2", "++loss.gamma=2"])
def test_a_typed_parameter_that_exists_with_no_choice_of_the_space_is_refused(typed):
    with pytest.raises(InputError) as refused:
        space({**LR, "loss": "choice(bce, ce)"}, typed=[typed])
    assert str(refused.value) == (
        f"{typed}: loss.gamma exists only where loss is focal, which no trial has; leave it out"
    )


def test_a_typed_parameter_that_the_fixed_choice_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"loss\.gamma exists only where loss is focal"):
        space(typed=["loss.gamma=interval(0.5,4)"], choices={"loss": "bce"})
    assert "loss.gamma" in space(typed=["loss.gamma=interval(0.5,4)"], choices={"loss": "focal"}).parameters


def test_a_parameter_of_the_yaml_that_exists_with_no_choice_is_left_out_and_a_note_says_why():
    gamma = {"loss.gamma": "interval(0.5, 4.0)"}
    found = space(conditional=gamma, enqueue=[{"optimizer.lr": 1e-3, "loss.gamma": 1}], typed=["loss=bce"])
    assert found.describe() == {"optimizer.lr": "0.0001 to 0.1, log"}
    assert found.queue == [{"optimizer.lr": 1e-3}]
    assert found.notes == ["not searched: loss.gamma exists only where loss is focal"]


def test_a_study_that_an_older_version_began_with_a_parameter_that_never_exists_has_the_same_space():
    found = space(conditional={"loss.gamma": "interval(0.5, 4.0)"}, typed=["loss=bce"])
    assert found.identity == {
        "optimizer.lr": "0.0001 to 0.1, log",
        "loss.gamma": "0.5 to 4, where loss is focal",
    }


def test_a_space_of_what_never_exists_is_refused():
    with pytest.raises(InputError, match="Nothing is searched"):
        space({}, {"loss.gamma": "interval(0.5, 4.0)"}, typed=["loss=bce"])


def test_a_conditional_parameter_given_as_a_range_joins_a_search_that_had_none():
    found = space({"loss": "choice(bce, focal)"}, typed=["loss.gamma=interval(0,1)"])
    assert found.parameters["loss.gamma"].distribution == FloatDistribution(0, 1)


def test_a_given_trial_comes_first_without_what_is_fixed():
    found = space(
        {**LR, "loss": "choice(ce, bce)"},
        enqueue=[{"optimizer.lr": 1e-3, "loss": "ce"}],
        typed=["loss=bce"],
    )
    assert found.queue == [{"optimizer.lr": 1e-3}]
    assert draw(found, 1) == [{"optimizer.lr": 1e-3}]


def test_given_trials_that_are_equal_without_what_is_fixed_are_queued_once():
    given = [{"optimizer.lr": 1e-3, "loss": "ce"}, {"optimizer.lr": 1e-3, "loss": "bce"}]
    always = {**LR, "loss": "choice(ce, bce)"}
    assert space(always, enqueue=given, typed=["loss=bce"]).queue == [{"optimizer.lr": 1e-3}]
    assert space(always, enqueue=given).queue == given


def test_a_given_trial_outside_the_space_is_not_queued_and_a_note_says_why():
    found = space(enqueue=[{"optimizer.lr": 1e-3}], typed=["optimizer.lr=interval(0.5,0.6)"])
    assert found.queue == []
    assert found.notes == ["not enqueued: optimizer.lr=0.001 is not in 0.5 to 0.6"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"optimizer.lrr": 3e-3},
            "search.enqueue sets optimizer.lrr, which is not searched. Did you mean optimizer.lr?",
        ),
        ({"optimizer.lr": 3e-3, "schedule": "cosine"}, "search.enqueue sets schedule, which is not searched"),
        ({"loss": "focal", "loss.gamma": 2}, "search.enqueue sets loss.gamma, which is not searched"),
    ],
)
def test_a_given_trial_that_sets_what_is_not_searched_is_refused(given, message):
    with pytest.raises(InputError) as refused:
        space(enqueue=[given], typed=["loss=choice(bce,focal)"])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("optimizer.lr=interval(2,1)", "optimizer.lr=interval(2,1): "),
        ("optimizer.lr=tag(log,interval(0,1))", "optimizer.lr=tag(log,interval(0,1)): "),
        ("fit.epochs=range(3,3)", "fit.epochs=range(3,3): "),
    ],
)
def test_an_empty_range_is_refused_by_name(typed, message):
    with pytest.raises(InputError) as refused:
        space(typed=[typed])
    assert message in str(refused.value)


def test_a_space_of_nothing_is_refused():
    with pytest.raises(InputError, match="Nothing is searched"):
        space(typed=["optimizer.lr=0.1"])


def test_extremes_touch_every_choice_and_both_ends_of_every_range():
    found = space({**LR, "loss": "choice(bce, focal)"}, {"loss.gamma": "interval(0.5, 4.0)"})
    assert found.extremes() == [
        {"optimizer.lr": 1e-4},
        {"optimizer.lr": 1e-1},
        {"loss": "bce"},
        {"loss": "focal"},
        {"loss": "focal", "loss.gamma": 0.5},
        {"loss": "focal", "loss.gamma": 4.0},
    ]


@given(low=st.floats(1e-6, 1.0), factor=st.floats(1.5, 1e3), seed=st.integers(0, 99))
def test_everything_drawn_lies_within_the_interval(low, factor, seed):
    found = space({"optimizer.lr": f"tag(log, interval({low}, {low * factor}))"})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    value = found.suggest(study.ask())["optimizer.lr"]
    assert low * (1 - 1e-9) <= value <= low * factor * (1 + 1e-9)
