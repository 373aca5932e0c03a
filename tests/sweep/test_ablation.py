"""Questions around recipes, as arms that are run once."""

import pytest

from pneumo.errors import InputError
from pneumo.sweep.design.ablation import build_design

SPEC = {
    "seeds": 3,
    "needs": {"phantom": {"data.n_images": 100}},
    "recipes": {
        "report": {"loss": "ce", "optimizer.lr": 1e-3},
        "best": {"loss": "bce", "optimizer.lr": 3e-3},
    },
    "questions": [
        {
            "concluded": "lower",
            "tested": "",
            "before": {"optimizer.lr": 1e-3},
            "after": {"optimizer.lr": 1e-4},
        },
        {"concluded": "loss", "tested": "", "before": {"loss": "ce"}, "after": {"loss": "combined"}},
    ],
}


def test_equal_arms_are_one_arm():
    arms = build_design(SPEC, [], "phantom").arms
    assert list(arms) == [
        "report",
        "report: optimizer.lr=0.0001",
        "report: loss=combined",
        "best",
        "best: optimizer.lr=0.001",
        "best: optimizer.lr=0.0001",
        "best: loss=ce",
        "best: loss=combined",
    ]


def test_a_pair_differs_in_the_question_alone():
    design = build_design(SPEC, [], "phantom")
    before, after = design.pair("best", SPEC["questions"][0])
    differing = {name for name, value in design.arms[before].items() if design.arms[after].get(name) != value}
    assert differing == {"optimizer.lr"}


def test_seeds_come_one_after_the_other_so_that_pairs_are_whole_early():
    design = build_design(SPEC, [], "phantom")
    assert design.size == len(design.queue) == 8 * 3
    assert [values["seed"] for values in design.queue[:9]] == [0] * 8 + [1]


def test_an_override_wins_over_a_recipe_and_a_question_over_it():
    design = build_design(SPEC, ["loss=focal", "fit.epochs=2"], "phantom")
    overrides = design.overrides({"arm": "best: loss=ce", "seed": 1})
    assert overrides.index("loss=ce") > overrides.index("loss=focal")
    assert overrides[-1] == "seed=1"
    assert "loss=bce" not in design.overrides({"arm": "best", "seed": 0})


@pytest.mark.parametrize(("data", "needed"), [("phantom", True), ("siim_png", False)])
def test_what_a_data_set_needs_is_asked_of_it_alone(data, needed):
    assert ("data.n_images=100" in build_design(SPEC, [], data).fixed) == needed


def test_a_range_and_a_single_seed_are_refused():
    with pytest.raises(InputError, match="a design has its own arms"):
        build_design(SPEC, ["loss=ce,bce"], "phantom")
    with pytest.raises(InputError, match="seeds must be at least 2"):
        build_design({**SPEC, "seeds": 1}, [], "phantom")
