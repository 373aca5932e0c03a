"""A study is what its id says, whatever its name: nothing of another one is taken over."""

import contextlib
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
import optuna
import pytest
from changing import World
from conftest import SMALL
from optuna.trial import TrialState
from sweeps import BEGIN, LR_ALONE, TINY, output_of, runs, study, swept, trials

from pneumo.cli import app
from pneumo.runs import checkpoint, config, tracking
from pneumo.runs.restore import experiment_of
from pneumo.sweep import job
from pneumo.sweep.folders import folder_of
from pneumo.sweep.storage import StudyStorage, open_study
from pneumo.sweep.trial import TrialCallback, TrialResult, tell_saved_results

__all__ = ["swept"]  # a fixture


def confirmed():
    return sorted(runs("tags.confirms != ''"), key=lambda run: run.info.start_time)


def test_a_study_begun_again_under_its_name_takes_nothing_over(swept, monkeypatch, capfd):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    output_of(monkeypatch, capfd, "confirm", "s", "--top", "1", "--seeds", "1")
    first, (before,) = study(), confirmed()
    folder = folder_of(first)
    written = {path: path.read_bytes() for path in folder.rglob("*.pt")}
    tested = first.user_attrs["tested"]
    Path("study.db").unlink()

    swept("n_trials=1", "search.enqueue=[{optimizer.lr: 0.01}]", *LR_ALONE)
    output_of(monkeypatch, capfd, "confirm", "s", "--top", "1", "--seeds", "1")
    again = study()
    assert confirmed()[0].info.run_id == before.info.run_id
    (after,) = confirmed()[1:]
    assert after.data.params["optimizer.lr"] == "0.01"
    assert again.user_attrs["tested"]["run_id"] == after.info.run_id
    assert tested["run_id"] == before.info.run_id

    ids = [one.user_attrs["study_id"] for one in (first, again)]
    assert ids[0] != ids[1]
    assert [folder_of(one).name for one in (first, again)] == [f"s-{one[:8]}" for one in ids]
    assert {path: path.read_bytes() for path in folder.rglob("*.pt")} == written
    for one, number in zip((first, again), ids, strict=True):
        kept = [checkpoint.read(path)["study_id"] for path in folder_of(one).rglob("*.pt")]
        assert kept == [number] * 4, "last and best, of a trial and of a fresh seed"
    of_ids = [len(runs(f"tags.study_id = '{one}'")) for one in ids]
    assert of_ids == [4, 4], "a parent, a trial, confirm's parent, a fresh seed"


def test_a_study_of_a_version_that_had_fewer_settings_and_attributes_is_continued(swept):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    identity, defaults = (
        study().user_attrs["identity"],
        config.default_parameters(experiment_of(runs("tags.trial = '0'")[0].info.run_id)),
    )
    newer = [name for name, value in identity["settings"].items() if defaults.get(name, "none") == value]
    assert {"fit.mask_weight", "fit.ema_decay"} <= {*newer}
    settings = {name: value for name, value in identity["settings"].items() if name not in newer}
    older = {topic: identity[topic] for topic in ("objective", "space")}
    study().set_user_attr("identity", {**older, "settings": settings})
    with contextlib.closing(sqlite3.connect("study.db")) as database, database:
        database.execute("DELETE FROM trial_user_attributes WHERE key IN ('epochs', 'effective_batch')")
        database.execute("DELETE FROM study_user_attributes WHERE key IN ('data', 'kept')")
    code, said = swept("n_trials=2", BEGIN, *LR_ALONE)
    assert code == 0, said
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 2


def test_a_study_is_not_continued_with_another_heartbeat_by_which_others_would_take_its_trials(swept):
    swept("n_trials=1", BEGIN, *LR_ALONE, "hydra.sweeper.heartbeat_seconds=20")
    code, said = swept("n_trials=2", BEGIN, *LR_ALONE)
    assert code == 1
    assert "hydra.sweeper.heartbeat_seconds: then 20, now 10" in said


AUGMENT = ["augment=none,flip", "optimizer.lr=0.003", "search.enqueue=[]", *LR_ALONE]


def test_a_study_is_not_continued_with_another_fixed_setting_of_a_searched_group(swept):
    code, said = swept("n_trials=1", *AUGMENT, "augment.crop=0.5")
    assert code == 0, said
    assert study().user_attrs["identity"]["settings"]["augment.crop on the command line"] == 0.5
    for words, now in ((["augment.crop=0.6"], "0.6"), ([], "not there")):
        code, said = swept("n_trials=2", *AUGMENT, *words)
        assert code == 1
        assert f"augment.crop on the command line: then 0.5, now {now}" in said
    assert len(trials()) == 1


def test_a_study_without_fixed_settings_of_its_searched_groups_names_none_of_them(swept):
    swept("n_trials=1", *AUGMENT)
    settings = study().user_attrs["identity"]["settings"]
    assert not [name for name in settings if name.startswith("augment.") or " " in name]
    code, said = swept("n_trials=2", *AUGMENT, "augment.crop=1.0")
    assert code == 1
    assert "augment.crop on the command line: then not there, now 1.0" in said


def test_given_trials_that_a_study_does_not_have_yet_are_added_once_when_it_goes_on(swept):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    others = "search.enqueue=[{optimizer.lr: 0.003},{optimizer.lr: 0.01},{optimizer.lr: 0.02}]"
    code, said = swept("n_trials=2", others, *LR_ALONE)
    assert code == 0, said
    code, said = swept("n_trials=3", others, *LR_ALONE)
    assert code == 0, said
    assert [trial.params["optimizer.lr"] for trial in trials()] == [0.003, 0.01, 0.02]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("data.split_seed=0,1", "data.split_seed"),
        ("data.fold=0,1", "data.fold"),
        ("data=phantom,nih", "data"),
    ],
)
def test_data_that_would_differ_between_trials_are_refused_before_the_study_begins(swept, typed, name):
    code, said = swept("n_trials=2", typed, *LR_ALONE)
    assert code == 1
    assert f"{name} cannot be searched: all trials of a study are on the same data" in said
    assert not Path("study.db").exists()


def test_how_the_same_images_are_shown_to_the_network_can_be_searched(swept):
    code, said = swept(
        "n_trials=4", "data.normalise=half,none", "search.enqueue=[]", *LR_ALONE, "optimizer.lr=0.003"
    )
    assert code == 0, said
    assert {trial.params["data.normalise"] for trial in trials()} == {"half", "none"}


@pytest.mark.parametrize("typed", ["model.pretrained=latest", "model.pretrained=choice(latest,imagenet)"])
def test_a_run_that_another_trial_may_replace_is_refused(swept, typed):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    code, said = swept("study=other", "n_trials=2", typed, *LR_ALONE)
    assert code == 1
    assert "model.pretrained=latest may be another run in each trial: give the run's name or id" in said


def test_a_retry_finds_the_run_of_its_own_study_alone(swept):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    number, parent = 0, study().user_attrs["parent_run"]
    (run,) = runs("tags.trial = '0'")
    Path("study.db").unlink()
    found = {}
    for name, above in {
        "own": parent,
        "another's": tracking.create_parent_run("pneumo", "s", {"study": "s"}),
    }.items():
        storage = open_study(f"sqlite:///{name[0]}.db", "s", ["maximize"])
        storage.study.set_user_attr("parent_run", above)
        storage.study.enqueue_trial({}, user_attrs={"attempts": [number]})
        trial = storage.claim_trial(1, lambda n_existing: optuna.samplers.RandomSampler())
        found[name] = TrialCallback(storage, trial.number, "val/auroc", {}).run_id
    assert found == {"own": run.info.run_id, "another's": None}


def test_a_study_whose_trials_plan_themselves_is_not_continued_without_that_nor_the_reverse(swept):
    for before, after, said in (
        (["experiment=auto"], [], "plan: then True, now not there"),
        ([], ["experiment=auto"], "plan: then not there, now True"),
    ):
        assert swept("n_trials=1", BEGIN, *LR_ALONE, *before)[0] == 0
        code, printed = swept("n_trials=2", BEGIN, *LR_ALONE, *after)
        assert code == 1
        assert said in printed
        Path("study.db").unlink()


def test_a_result_whose_storing_is_interrupted_is_stored_by_the_next_start(tmp_path, monkeypatch):
    storage = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"])
    claimed = storage.claim_trial(1, lambda n_existing: optuna.samplers.RandomSampler())
    rate = claimed.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
    claimed.set_user_attr("config_hash", "abc")
    trial = TrialCallback(storage, 0, "val/auroc", {})
    stopped, complete = TrialResult("FAIL", kind="stopped"), TrialResult("COMPLETE", [0.75])
    for result, is_kept in ((stopped, False), (complete, True)):
        with monkeypatch.context() as patch:
            patch.setattr(StudyStorage, "with_retries", interrupted)
            with pytest.raises(KeyboardInterrupt):
                trial.tell(result, tmp_path / "0")
        assert (tmp_path / "0" / "untold.json").exists() == is_kept
    storage.fail_trial(0, "stopped", "interrupted")
    assert tell_saved_results(storage, tmp_path) == [0]
    _, retry = storage.trials()
    assert (retry.state, retry.values) == (TrialState.COMPLETE, [0.75])
    assert retry.params == pytest.approx({"optimizer.lr": rate})
    assert retry.user_attrs["config_hash"] == "abc"


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_trial_is_stopped_where_the_storing_of_its_end_is_interrupted(swept, monkeypatch):
    monkeypatch.setattr(TrialCallback, "tell", interrupted)
    code, _ = swept("n_trials=1", BEGIN, *LR_ALONE)
    assert code == 130
    first, retry = trials()
    assert (first.state, first.user_attrs["failure"]) == (TrialState.FAIL, "stopped")
    assert retry.state == TrialState.WAITING


def test_an_interrupt_ends_a_sweep_also_where_mlflow_cannot_be_told(swept, monkeypatch):
    def train(experiment, folder, callback):
        callback.run_id = "0" * 32  # MLflow does not have it
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run", train)
    code, printed = swept("n_trials=2", BEGIN, *LR_ALONE)
    assert code == 130, printed
    assert [trial.state for trial in trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_a_saved_result_of_another_study_is_left_alone(tmp_path):
    storage = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"])
    storage.claim_trial(1, lambda n_existing: optuna.samplers.RandomSampler())
    told = {"trial": 0, "state": "COMPLETE", "values": [1.0], "kind": "", "reason": "", "figures": {}}
    untold = tmp_path / "0" / "untold.json"
    untold.parent.mkdir()
    untold.write_text(json.dumps({"study_id": "0" * 32, **told}))
    assert tell_saved_results(storage, tmp_path) == []
    assert untold.exists()
    assert [trial.state for trial in storage.trials()] == [TrialState.RUNNING]


def as_before_studies_had_ids(one):
    """The study's database, folder and runs as they were then; its older folder."""
    older = Path("outputs/studies/s")
    shutil.move(folder_of(one), older)
    settings = one.user_attrs["identity"]["settings"]
    settings["data._target_"] = "pneumo.data.sources.phantom.Phantom"
    del settings["fit.mask_weight"]
    one.set_user_attr("identity", {**one.user_attrs["identity"], "settings": settings})
    with sqlite3.connect("study.db") as connection:
        connection.execute("DELETE FROM study_user_attributes WHERE key IN ('study_id', 'data')")
    for run in runs("tags.trial != ''"):
        mlflow.MlflowClient().delete_tag(run.info.run_id, "study_id")
        folder = older / run.data.tags["trial"] / "checkpoints"
        mlflow.MlflowClient().set_tag(run.info.run_id, "checkpoints", str(folder.resolve()))
    return older


def test_a_study_of_an_older_version_continues_in_its_folder_and_gets_an_id(swept):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    older = as_before_studies_had_ids(study())
    code, printed = swept("n_trials=2", BEGIN, *LR_ALONE)
    assert code == 0, printed
    assert len(trials()) == 2
    assert folder_of(study()) == older
    assert (older / "1" / "checkpoints" / "last.pt").exists()
    assert len(study().user_attrs["study_id"]) == 32


def test_a_new_study_leaves_the_folder_of_an_older_one_alone(swept):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    older = as_before_studies_had_ids(study())
    last = older / "0" / "checkpoints" / "last.pt"
    written = last.read_bytes()
    Path("study.db").unlink()
    swept("n_trials=1", "search.enqueue=[{optimizer.lr: 0.01}]", *LR_ALONE)
    assert folder_of(study()) != older
    assert last.read_bytes() == written


def test_a_fresh_seed_of_another_configuration_is_run_again(swept, monkeypatch, capfd):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    output_of(monkeypatch, capfd, "confirm", "s", "--top", "1", "--seeds", "1")
    (run,) = confirmed()
    mlflow.MlflowClient().set_tag(run.info.run_id, "config_hash", "another")
    output_of(monkeypatch, capfd, "confirm", "s", "--top", "1", "--seeds", "1")
    assert len(confirmed()) == 2


def test_confirm_counts_its_evaluation_of_the_test_split(swept, monkeypatch, capfd):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    for _ in range(2):
        output_of(monkeypatch, capfd, "confirm", "s", "--top", "1", "--seeds", "1")
    (run,) = confirmed()
    assert run.data.tags["test_evaluations"] == "1"
    printed = output_of(monkeypatch, capfd, "evaluate", run.info.run_id)
    assert "The test split has now been evaluated 2 times" in printed


def test_a_study_whose_labels_have_changed_says_so_at_its_start(swept, workdir):
    world = World(workdir / "world")
    command = [*LR_ALONE, BEGIN]
    code, printed = swept("n_trials=1", *command, small=world.overrides())
    assert code == 0, printed
    world.table.loc[[0, 1], "label"] = 1 - world.table.loc[[0, 1], "label"]
    world.write()
    there = len(runs())
    code, printed = swept("n_trials=2", *command, small=world.overrides())
    assert code == 1
    assert "The data are not those the study s began with: labels, the split differ" in printed
    assert len(trials()) == 1, "no result was taken over, and none was asked for"
    assert len(runs()) == there
    world.table.loc[[0, 1], "label"] = 1 - world.table.loc[[0, 1], "label"]
    world.write()
    code, printed = swept("n_trials=2", *command, small=world.overrides())
    assert code == 0, printed


def test_confirm_refuses_data_that_have_changed_before_it_trains(swept, workdir, monkeypatch):
    world = World(workdir / "world")
    swept("n_trials=1", *LR_ALONE, BEGIN, small=world.overrides())
    world.table.loc[[0, 1], "label"] = 1 - world.table.loc[[0, 1], "label"]
    world.write()
    monkeypatch.setattr(sys, "argv", ["pneumo", "confirm", "s", "--top", "1", "--seeds", "1"])
    with pytest.raises(SystemExit, match="The data are not those the study s began with: labels"):
        app.main()
    assert confirmed() == []
    assert not Path("conf").exists()


def test_checkpoints_of_another_run_in_a_trials_folder_are_not_resumed(swept, composed):
    from pneumo.sweep.job import resumed

    swept("n_trials=2", BEGIN, *LR_ALONE)
    first, second = (trial.user_attrs["run_id"] for trial in trials())
    experiment = composed(*SMALL, *TINY)
    assert resumed(experiment, first).resume == first
    paths = [
        Path(run.data.tags["checkpoints"]) / checkpoint.LAST
        for run in (mlflow.get_run(first), mlflow.get_run(second))
    ]
    shutil.copy(paths[1], paths[0])
    assert resumed(experiment, first).resume is None
