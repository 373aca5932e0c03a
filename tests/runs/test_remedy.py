"""What a run that has not learned is advised to change."""

from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from pneumo.data.dataset import load_dataset
from pneumo.display.console import Terminal
from pneumo.runs import config, search_path
from pneumo.runs.planner import planned
from pneumo.runs.remedy import CHOICES, decides, remedy

DATA = ["data.n_images=900", "data.image_side_px=128"]  # 630 to train on, 40 steps an epoch: 50 epochs
NETWORK = ["model.width=4", "model.stem_width=null", "seed=3", "tta=scales"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_STORES", str(tmp_path_factory.mktemp("stores")))
        yield load_dataset(of(*DATA).data, lambda done, total: None)


def of(*typed):
    return replace(config.load(config.compose_train(typed)), overrides=list(typed))


def after(typed, advice):
    """The run with the advice taken, as train.py would plan it."""
    added, _, left_out = advice.partition(" without ")
    taken = [*(word for word in typed if word not in left_out.split()), *added.split()]
    return planned(config.compose_train(taken), taken, Terminal(quiet=True))


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ([], "experiment=auto"),
        (["optimizer.lr=1"], "experiment=auto optimizer.lr=0.003"),
        (["optimizer.lr=1", "augment=flip"], "experiment=auto optimizer.lr=0.003"),
        (["augment=report"], "experiment=auto augment=flip"),
        (["augment.crop=0.4"], "experiment=auto augment.crop=1"),
        (["experiment=report_raw", "model=tiny", "model.pretrained=null"], "experiment=auto"),
        (["optimizer=sgd", "optimizer.lr=1e-5"], "experiment=auto optimizer=adamw optimizer.lr=0.003"),
        (
            ["model.freeze=backbone", "fit.ema_decay=.9999"],
            "experiment=auto model.freeze=none fit.ema_decay=null",
        ),
        (["fit.batch_size=64"], "experiment=auto fit.batch_size=16 fit.epochs=50"),
        (["fit.epochs=3"], "experiment=auto fit.epochs=50"),
        (["debug=profile"], "experiment=auto fit.epochs=50"),
        (["fit.epochs=60", "loss=focal"], "experiment=auto loss=bce"),
        (["data.image_side_px=64"], "experiment=auto data.image_side_px=128"),
        (
            ["experiment=report_plateau", "model=tiny", "schedule.factor=0.2"],
            "experiment=auto without schedule.factor=0.2",
        ),
    ],
)
def test_the_advice_added_to_the_command_gives_what_experiment_auto_plans(dataset, workdir, typed, advice):
    found = remedy(of(*DATA, *NETWORK, *typed), dataset)
    assert found.split(" ")[0] == "experiment=auto"
    assert sorted(found.split()) == sorted(advice.split())


@pytest.mark.parametrize(
    "typed", [["optimizer=sgd", "optimizer.momentum=.5", "fit.epochs=3"], ["augment=strong"]]
)
def test_a_run_that_took_the_advice_has_the_plan_and_what_has_nothing_to_do_with_learning(
    dataset, workdir, typed
):
    command = [*DATA, *NETWORK, *typed]
    wanted = after([*DATA, *NETWORK], "experiment=auto").parameters
    assert after(command, remedy(of(*command), dataset)).parameters == wanted
    assert wanted["seed"] == 3
    assert wanted["model.width"] == 4


def test_a_run_with_the_planned_settings_is_advised_nothing(dataset, workdir):
    plan = after(DATA, "experiment=auto")
    assert remedy(replace(plan, overrides=[*DATA, "experiment=auto"]), dataset) == ""


def test_a_rate_that_is_too_high_becomes_a_tenth_even_where_it_is_the_planned_one(dataset, workdir):
    found = remedy(of(*DATA, "optimizer.lr=0.002"), dataset, rate_too_high=True)
    assert found == "experiment=auto optimizer.lr=0.0002"
    found = remedy(of(*DATA, "optimizer.lr=0.9"), dataset, rate_too_high=True)
    assert found == "experiment=auto optimizer.lr=0.003"


def test_the_choices_are_those_of_the_file():
    lines = OmegaConf.load(search_path.OWN / "experiment" / "auto.yaml")["defaults"]
    assert {f"override /{group}": choice for group, choice in CHOICES.items()} == {
        key: choice for line in lines for key, choice in line.items()
    }


def test_network_data_and_seed_do_not_belong_to_the_advice():
    assert not any(decides(word) for word in [*NETWORK, "data.n_images=900", "model=resnet18"])


def test_a_command_that_does_not_compose_with_auto_is_advised_auto_alone(dataset, workdir):
    assert remedy(replace(of(*DATA), overrides=["mine.lr=1"]), dataset) == "experiment=auto"
