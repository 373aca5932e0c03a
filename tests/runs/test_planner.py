"""experiment=auto: which settings follow from which data."""

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import ROOT, SMALL
from hydra import compose, initialize_config_dir

from pneumo.display.console import Terminal
from pneumo.runs import config, query
from pneumo.runs.planner import DISTORTED, PLANNED, Fingerprint, decisions, planned
from pneumo.runs.run import run

DATA = Fingerprint(n_images=1120, prevalence=0.22, small_lesion=0.0017, effective_batch=16, on_cpu=True)
TINY = ["experiment=auto", "data.n_images=160", "data.image_side_px=64", "fit.pictures=false"]


def settings(data):
    return {name: value for decision in decisions(data) for name, value in decision.settings.items()}


def auto(*overrides, primary="train"):
    with initialize_config_dir(str(ROOT / "conf")):
        return planned(compose(primary, [*TINY, *overrides]), [*TINY, *overrides], Terminal(quiet=True))


@pytest.mark.parametrize(
    ("n_images", "batch", "epochs"),
    [
        (1120, 16, 29),  # 70 steps an epoch: 28 epochs are 1,960, 29 are 2,030
        (280, 16, 72),  # 18 steps: 112 epochs would be needed
        (100_000, 16, 12),  # 6,250 steps
        (1120, 64, 72),  # 18 steps again
    ],
)
def test_epochs_make_two_thousand_steps_within_bounds(n_images, batch, epochs):
    assert settings(replace(DATA, n_images=n_images, effective_batch=batch))["fit.epochs"] == epochs


@pytest.mark.parametrize(
    ("small_lesion", "side"),
    [
        (0.0025, 96),  # 23 pixels at 96 px
        (0.0017, 128),  # 16 pixels at 96 px, 28 at 128
        (0.0009, 192),  # 15 pixels at 128 px
        (0.0001, 192),  # not even there
    ],
)
def test_the_side_is_the_first_at_which_small_lesions_cover_twenty_pixels(small_lesion, side):
    assert settings(replace(DATA, small_lesion=small_lesion))["data.image_side_px"] == side


@pytest.mark.parametrize(
    ("largest_px", "side", "pixels"),
    [
        (64, 64, 7),  # 0.0017 of 4,096
        (112, 112, 21),  # which is enough
        (1024, 128, 28),
        (None, 128, 28),
    ],
)
def test_no_file_is_enlarged(largest_px, side, pixels):
    (first, *_) = decisions(replace(DATA, largest_px=largest_px))
    assert first.settings == {"data.image_side_px": side}
    assert f"cover {pixels} pixels or more" in first.reason
    assert ("no file is larger" in first.reason) == (side == largest_px)


def test_the_fingerprint_knows_the_longest_side_of_the_files(workdir):
    from pneumo.data.dataset import load_dataset

    experiment = auto("tta=none", "fit.epochs=1")
    dataset = load_dataset(experiment.data, lambda done, total: None)
    assert Fingerprint.of(dataset, experiment).largest_px is None  # of phantoms
    from_files = replace(dataset, store=replace(dataset.store, largest_px=64))
    assert Fingerprint.of(from_files, experiment).largest_px == 64


def test_the_side_stays_on_a_gpu_and_without_masks():
    assert "data.image_side_px" not in settings(replace(DATA, on_cpu=False))
    assert "data.image_side_px" not in settings(replace(DATA, small_lesion=None))


def test_only_few_images_are_distorted():
    assert not DISTORTED.keys() & settings(replace(DATA, n_images=600)).keys()
    assert DISTORTED.items() <= settings(replace(DATA, n_images=599)).items()


def test_the_distortions_are_those_of_augment_safe():
    safe, flip = (config.compose_train([f"augment={name}"]).augment for name in ("safe", "flip"))
    different = {f"augment.{name}": safe[name] for name in safe if safe[name] != flip[name]}
    assert different == DISTORTED


def test_positives_that_are_the_majority_are_sampled_as_they_are():
    assert settings(DATA)["fit.positive_share"] == 0.8
    assert settings(replace(DATA, prevalence=0.85))["fit.positive_share"] is None
    (said,) = [str(d) for d in decisions(replace(DATA, prevalence=0.004)) if "positive_share" in str(d)]
    assert "0.4% of the training images are positive" in said


@pytest.mark.parametrize(("prevalence", "share"), [(1.0, "100%"), (0.997, "99.7%"), (0.85, "85%")])
def test_what_is_planned_can_be_typed(prevalence, share):
    (said,) = [str(d) for d in decisions(replace(DATA, prevalence=prevalence)) if "positive_share" in str(d)]
    assert said == (
        f"fit.positive_share=null: {share} of the training images are positive; the first epochs need no "
        "more of them"
    )


def test_every_setting_that_a_rule_decides_is_among_the_planned_ones():
    few = replace(DATA, n_images=100)
    assert {name for data in (DATA, few) for name in settings(data)} == set(PLANNED)


def test_the_fingerprint_measures_the_training_split_alone(workdir):
    experiment = auto("tta=none", "fit.epochs=1")
    from pneumo.data.dataset import load_dataset

    dataset = load_dataset(experiment.data, lambda done, total: None)
    found, train = Fingerprint.of(dataset, experiment), dataset.split.train
    assert found.n_images == len(train)
    assert found.prevalence == pytest.approx(dataset.labels[train].mean())
    areas = [dataset.store.masks(np.array([row])).mean() / 255 for row in train[dataset.labels[train] == 1]]
    assert found.small_lesion == pytest.approx(np.quantile(areas, 0.1))


def test_the_steps_of_several_processes_are_those_of_their_batch_together(workdir, monkeypatch):
    from pneumo.data.dataset import load_dataset

    experiment = auto("tta=none", "fit.epochs=1")
    dataset = load_dataset(experiment.data, lambda done, total: None)
    alone = Fingerprint.of(dataset, experiment).effective_batch
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Fingerprint.of(dataset, experiment).effective_batch == 4 * alone


def test_what_is_set_by_hand_is_not_planned(workdir):
    experiment = auto("fit.epochs=3", "augment=none", "tta=none")
    assert (experiment.fit.epochs, experiment.tta) == (3, "none")
    assert experiment.augment.rotation_degrees == 0
    assert experiment.data.image_side_px == 64
    assert experiment.fit.positive_share == 0.8


def test_what_another_file_sets_is_not_planned(workdir):
    profile = auto("debug=profile")
    assert profile.fit.epochs == 1
    assert profile.tta == "hflip"
    trial = auto("search=quick", primary="sweep")
    assert trial.fit.epochs == 5
    assert trial.fit.positive_share == 0.8


def test_an_experiment_of_the_users_own_on_top_of_auto_keeps_what_it_sets(workdir):
    mine = Path("conf/experiment/mine.yaml")
    mine.parent.mkdir(parents=True)
    mine.write_text(
        "# @package _global_\ndefaults: [auto, override /augment: none]\nfit: {epochs: 30}\ntta: scales\n"
    )
    typed = ["experiment=mine", *TINY[1:]]
    with config.composed_as_by_train(typed) as (composed, _):
        experiment = planned(composed, typed, Terminal(quiet=True))
    assert (experiment.fit.epochs, experiment.tta) == (30, "scales")
    assert experiment.augment.rotation_degrees == experiment.augment.flip == 0
    assert "augment" not in experiment.plan
    Path("conf/experiment/planned.yaml").write_text(experiment.plan)
    with config.composed_as_by_train(["experiment=planned", *TINY[1:]]) as (composed, _):
        assert config.load(composed).parameters == experiment.parameters
    with config.composed_as_by_train(TINY) as (composed, _):
        assert planned(composed, TINY, Terminal(quiet=True)).fit.epochs == 72


def test_a_check_on_few_images_is_not_planned(workdir):
    assert auto("debug=fast").fit.epochs == 2


def test_the_plan_in_the_run_is_an_experiment_that_composes_to_the_same(workdir):
    experiment = auto("fit.epochs=1")
    run(experiment, workdir / "out")
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    target = Path("conf/experiment/mine.yaml")
    target.parent.mkdir(parents=True)
    target.write_text(query.read_text(found.info.run_id, "plan.yaml"))
    again = config.load(
        config.compose_train(
            [
                "experiment=mine",
                *TINY[1:],
                "fit.epochs=1",
                f"hydra.searchpath=[file://{Path('conf').resolve()}]",
            ]
        )
    )
    assert again.parameters == experiment.parameters
    assert "so few images would be learned by heart" in target.read_text()


def test_other_experiments_have_no_plan(composed, workdir):
    assert composed(*SMALL).plan == ""
