"""What is made from data, splits, runs and folders, after these have changed between two commands: every cell
of the table in docs/trust.md is the same, refused, or said."""

import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from changing import csv_of, images_of_split, predictions_of, train, world
from logged_runs import let_small_runs_compete
from PIL import Image

from pneumo.cli.app import invoke
from pneumo.errors import InputError
from pneumo.runs import best, checkpoint, query
from pneumo.runs.checkpoint import BEST, LAST
from pneumo.runs.query import checkpoint_file

__all__ = ["train", "world"]  # fixtures


def grown(world):
    """Twenty images of twenty new patients."""
    new = world.table.iloc[:20].assign(
        image=[f"png/new-{k}.png" for k in range(20)], patient=[f"new {k}" for k in range(20)], mask=""
    )
    for k, name in enumerate(new["image"]):
        Image.fromarray(np.full((64, 64), 10 * k, np.uint8)).save(world.root / name)
    world.table = pd.concat([world.table, new], ignore_index=True)


def relabelled(world):
    negative = world.table.index[world.table["label"] == 0][:6]
    world.table.loc[negative, "label"] = 1


def shuffled(world):
    world.table = world.table.sample(frac=1, random_state=0)


def other_bytes(world):
    """In the first five files: other pixels, the size and the time of change of before."""
    for name in world.table["image"].iloc[:5]:
        path = world.root / name
        before = path.stat()
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path, compress_level=0)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size


def repatiented(world):
    world.table.loc[world.table.index[:3], "patient"] = "somebody else"


CHANGES = {"rows": grown, "labels": relabelled, "bytes": other_bytes, "patients": repatiented}
SAID = {
    "rows": "20 images are new",
    "labels": "labels of 6 images differ",
    "bytes": "pixels of 5 images differ",
    "patients": "patients of 3 images differ",
}


def test_images_of_a_patient_who_turns_out_to_have_been_trained_on_are_not_in_the_common_ones(world, train):
    by_column = ("data.split=column", "data.split_column=fold")
    folds = np.array(["test", "val", "train", "train"])[np.arange(160) % 4]
    world.table = world.table.assign(fold=folds, patient=[f"patient {k}" for k in range(160)])
    world.write()
    one = train("seed=0", *by_column)
    test, trained_on = np.flatnonzero(folds == "test"), np.flatnonzero(folds == "train")
    world.table.loc[test[:5], "patient"] = world.table["patient"].iloc[trained_on[0]]
    world.write()
    with pytest.raises(InputError, match=r"the 35 images .* of no patient that it was trained on"):
        invoke(["evaluate", one])
    invoke(["evaluate", one, "--split", "common", "--maps", "none"])
    found = csv_of(one, "evaluation/table-common-none/predictions.csv")
    assert set(found["image_id"]) == set(world.table["image"].iloc[test[5:]])


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_asked_of_a_run_whose_data_have_changed_is_refused_by_name(world, train, change, composed):
    one, two = train("seed=0"), train("seed=1")
    CHANGES[change](world)
    world.write()
    for words in (["evaluate", one], ["compare", one, two], ["evaluate", one, two], ["reproduce", one]):
        with pytest.raises(InputError, match=SAID[change]):
            invoke(words)
    with pytest.raises(InputError, match=SAID[change]):
        train("seed=0", f"resume={one}")
    assert query.test_evaluations_of(query.find_run(one)) == 1, "what was refused was not evaluated"
    assert mlflow.search_runs(search_all_experiments=True, filter_string="attributes.status='FAILED'").empty


def test_of_grown_data_the_images_that_are_test_in_both_can_be_evaluated(world, train, capsys):
    by_column = ("data.split=column", "data.split_column=fold")
    folds = np.array(["test", "val", "train", "train"])[np.arange(160) % 4]
    world.table = world.table.assign(fold=folds, patient=[f"patient {k}" for k in range(160)])
    world.write()
    one = train("seed=0", *by_column)
    then = predictions_of(one, "test")
    test, train_rows = np.flatnonzero(folds == "test"), np.flatnonzero(folds == "train")
    world.table.loc[test[:8], "fold"] = "train"
    world.table.loc[train_rows[:6], "fold"] = "test"
    grown(world)  # 6 of the 20 in the test split
    world.write()
    with pytest.raises(InputError) as refused:
        invoke(["evaluate", one])
    for said in (
        "20 images are new",
        "14 images are in another split",
        "6 of the 44 current test images were trained on",
        "--split common evaluates the 32 images",
    ):
        assert said in str(refused.value)
    other = train("seed=1", *by_column)
    now = predictions_of(other, "test")
    common = set(then["image_id"]) & set(now["image_id"])
    assert common == set(world.table["image"].iloc[test[8:]])
    invoke(["evaluate", one, "--split", "common"])
    found = csv_of(one, "evaluation/table-common-none/predictions.csv")
    assert set(found["image_id"]) == common
    joined = then.merge(found, on="image_id")
    assert joined["score_x"].to_numpy() == pytest.approx(joined["score_y"].to_numpy(), abs=1e-5)
    with pytest.raises(InputError, match="20 images are new"):
        invoke(["compare", one, other])
    capsys.readouterr()
    invoke(["compare", one, other, "--split", "common"])
    assert f"{len(common)} images" in capsys.readouterr().out


def test_rows_in_another_order_are_the_same_data_in_the_run_s_own_split(world, train):
    one, two = train("seed=0"), train("seed=1")
    invoke(["evaluate", one, two, "--split", "val"])
    before = mlflow.search_runs(filter_string=f"tags.members = '{one} {two}'", output_format="list")
    then = csv_of(before[0].info.run_id, "evaluation/table-val-none/predictions.csv").set_index("image_id")
    shuffled(world)
    world.write()
    invoke(["evaluate", one])
    own = predictions_of(one, "test").set_index("image_id")["score"]
    found = csv_of(one, "evaluation/table-test-none/predictions.csv").set_index("image_id")["score"]
    assert found[own.index].to_numpy() == pytest.approx(own.to_numpy(), abs=1e-5)
    with pytest.raises(InputError, match="images are in another split"):
        train("seed=0", f"resume={one}")
    invoke(["evaluate", one, two, "--split", "val"])
    after = mlflow.search_runs(filter_string=f"tags.members = '{one} {two}'", output_format="list")
    (last,) = {run.info.run_id for run in after} - {run.info.run_id for run in before}
    now = csv_of(last, "evaluation/table-val-none/predictions.csv").set_index("image_id")
    assert now.loc[then.index, "score"].to_numpy() == pytest.approx(then["score"].to_numpy(), abs=1e-6)


def test_an_ensemble_is_joined_by_image_id(world, train, composed):
    """Two runs on the same images in another order, split by a column: of equal weights their mean is
    each."""
    world.table["fold"] = np.array(["test", "val", "train", "train", "train"])[np.arange(160) % 5]
    world.write()
    by_column = ("data.split=column", "data.split_column=fold")
    one = train(*by_column, "fit.epochs=12", "optimizer.lr=1e-2", "schedule=constant")
    world.table = world.table.iloc[::-1]
    world.table.to_csv(world.root / "reversed.csv", index=False)
    two = train(*by_column, "data.table=reversed.csv", f"model.pretrained={one}", "optimizer.lr=1e-9")
    single = predictions_of(one, "test").set_index("image_id")["score"]
    invoke(["evaluate", one, two])
    (ensemble,) = mlflow.search_runs(filter_string=f"tags.members = '{one} {two}'", output_format="list")
    joint = csv_of(ensemble.info.run_id, "evaluation/table-test-none/predictions.csv").set_index("image_id")
    other = predictions_of(two, "test").set_index("image_id")["score"]
    odds = [np.log(s / (1 - s)) for s in (single, other[single.index])]
    mean = 1 / (1 + np.exp(-np.mean(odds, axis=0)))
    in_order = joint.loc[single.index, "score"].to_numpy()
    assert in_order == pytest.approx(mean, abs=2e-6), "six digits are written"
    assert single.std() > 1e-4, "else any order would do"


def test_a_moved_folder_is_the_same_data_where_it_is_said_to_lie(world, train, workdir):
    one = train()
    moved = workdir / "elsewhere"
    world.root.rename(moved)
    with pytest.raises(InputError, match=r"data\.root: .* is not there"):
        invoke(["evaluate", one])
    invoke(["evaluate", one, f"data.root={moved}"])
    assert query.test_evaluations_of(query.find_run(one)) == 2
    world.root = moved
    state = checkpoint.read(checkpoint_file(one, LAST))
    assert train("fit.epochs=1", f"resume={one}") == one, "a run is gone on with where its data are now"
    assert state["config"].keys() == checkpoint.read(checkpoint_file(one, LAST))["config"].keys()


# ---- best


def test_best_is_no_run_of_a_few_images_and_none_that_leaks(world, train, monkeypatch):
    let_small_runs_compete(monkeypatch)
    one = train("fit.epochs=2")
    few = train("fit.few_images=16", "fit.epochs=30", "augment=none", "optimizer.lr=1e-2")
    leaking = train("data.split=image", "fit.epochs=2")
    for run_id in (few, leaking):
        mlflow.MlflowClient().log_metric(run_id, "best/val_auroc", 1.0)
    assert best.best_run().run_id == one
    mlflow.MlflowClient().delete_run(one)
    with pytest.raises(InputError, match="no run that can be chosen as best: of 2, left out are "):
        best.best_run()


def test_best_asks_which_where_there_are_runs_of_several_data_sets(world, train, monkeypatch):
    let_small_runs_compete(monkeypatch)
    one = train()
    other = train(
        *("data=phantom", "data.n_images=160", "data.image_side_px=64", "model.width=4", "fit.epochs=1"),
        *("fit.pictures=false",),
        data="phantom",
    )
    with pytest.raises(InputError, match="There are runs of 2 data sets") as asked:
        best.best_run()
    assert {line.split()[0] for line in str(asked.value).splitlines()[1:]} == {"best@table", "best@phantom"}
    assert best.best_run({"data": "table"}).run_id == one
    assert best.best_run({"": "phantom"}).run_id == other
    key = query.find_run(one).data.tags["data_identity"]
    assert best.best_run({"": key[:10]}).run_id == one
    with pytest.raises(InputError, match="has no finished run of nih: train one first; there are runs of"):
        best.best_run({"": "nih"})


# ---- evaluations of the test split


def test_a_look_is_counted_under_whatever_name_the_images_are_asked_for(world, train, capsys):
    one = train()
    other_words = [word for word in world.overrides() if word.startswith("data")]
    invoke(["evaluate", one])
    invoke(["evaluate", one, *other_words, "--split", "all"])
    invoke(["evaluate", one, *other_words, "--split", "test"])
    copy = world.table.copy()
    copy["image"] = [f"png/copy-{k}.png" for k in range(len(copy))]
    for name, new in zip(world.table["image"], copy["image"], strict=True):
        shutil.copy(world.root / name, world.root / new)
    copy.to_csv(world.root / "copy.csv", index=False)
    invoke(["evaluate", one, *other_words, "data.table=copy.csv", "--split", "all"])
    assert query.test_evaluations_of(query.find_run(one)) == 5
    n_test = len(predictions_of(one, "test"))
    said = " ".join(capsys.readouterr().out.split())
    assert f"{n_test} of these images are in the test split. The test split has now been evaluated 5" in said


def test_a_training_that_fails_once_its_test_metrics_are_shown_has_evaluated_the_test_split(
    world, train, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        patched.setattr("pneumo.runs.logged.results_json", fails)
        with pytest.raises(RuntimeError, match="no results"):
            train("seed=0")
    (failed,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert (failed.info.status, query.test_evaluations_of(failed)) == ("FAILED", 1)
    train("seed=0", f"resume={failed.info.run_id}")
    assert query.test_evaluations_of(query.find_run(failed.info.run_id)) == 2


def fails(*given):
    raise RuntimeError("no results")


def test_evaluations_through_other_runs_are_counted(world, train, capsys):
    one, two = train("seed=0"), train("seed=1")
    invoke(["evaluate", two])
    capsys.readouterr()
    invoke(["evaluate", one])
    assert "1 other run evaluated the same test images, 2 times in all." in capsys.readouterr().out


# ---- predicting


def test_files_that_a_model_was_trained_on_are_told_from_others(world, train, workdir, capsys):
    one = train()
    trained = set(images_of_split(world, one, "train"))
    shutil.copytree(world.root / "png", workdir / "films", ignore=shutil.ignore_patterns("*_mask.png"))
    for path in (workdir / "films").iterdir():
        path.rename(path.with_name(f"renamed-{path.name}"))
    invoke(["predict", one, str(workdir / "films")])
    found = pd.read_csv("predictions.csv")
    known = found.loc[found["trained_on"] == "yes", "path"]
    assert {Path(path).name.removeprefix("renamed-") for path in known} == {Path(p).name for p in trained}
    assert f"known     {len(trained)} are images that it was trained on" in capsys.readouterr().out


# ---- resuming


def test_resume_auto_leaves_an_unfinished_run_on_other_data_and_says_so(world, train, capsys):
    one = train("fit.epochs=2")
    mlflow.MlflowClient().set_terminated(one, "KILLED")
    relabelled(world)
    world.write()
    other = train("fit.epochs=2", "resume=auto")
    assert other != one
    said = capsys.readouterr()
    assert "labels of 6 images differ" in said.out + said.err
    world.table.loc[:, "label"] = pd.read_csv(world.root / "images.csv")["label"]
    mlflow.MlflowClient().set_terminated(other, "KILLED")
    assert train("fit.epochs=2", "resume=auto") == other


def test_resume_auto_finds_a_run_of_before_runs_had_identities(world, train):
    one = train("fit.epochs=2")
    client = mlflow.MlflowClient()
    for tag in ("data_identity", "split_identity", "test_identity"):
        client.delete_tag(one, tag)
    client.set_tag(one, "config_hash", "of before")
    client.set_terminated(one, "KILLED")
    for name in (LAST, BEST):
        path = checkpoint_file(one, name)
        state = checkpoint.read(path)
        checkpoint.write({k: v for k, v in state.items() if k not in ("format", "images", "seen")}, path)
    assert train("fit.epochs=2", "resume=auto") == one


# ---- caches


def test_features_of_a_frozen_backbone_are_not_taken_for_other_labels(world, train):
    frozen = ("model.freeze=backbone", "augment=none", "fit.epochs=3")
    one = train(*frozen)
    again = train(*frozen)
    cached = set(Path("stores").glob("*/features-*.npz"))
    assert len(cached) == 1
    other = train(*frozen, "data.columns.label=other")
    fresh = train(*frozen, "data.columns.label=other", "data.store_dir=fresh")
    assert query.metrics_of(one)["last/train_loss"] == query.metrics_of(again)["last/train_loss"]
    assert query.metrics_of(other)["last/train_loss"] == query.metrics_of(fresh)["last/train_loss"]


def test_a_checkpoint_that_another_run_has_written_over_is_nobody_s(world, train, workdir):
    one, other = train("seed=0"), train("seed=1")
    for name in (LAST, BEST):
        shutil.copy(checkpoint_file(other, name), checkpoint_file(one, name))
    for again in (
        lambda: invoke(["evaluate", one]),
        lambda: invoke(["predict", one, str(world.root / "png")]),
        lambda: train("seed=0", f"resume={one}"),
        lambda: train("seed=2", f"model.pretrained={one}"),
        lambda: invoke(["reproduce", one]),
    ):
        with pytest.raises(InputError, match=f"belongs to another run, {other}, which has overwritten it"):
            again()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data.root=[", "parsing error|no viable alternative|mismatched"),
        ("data.nonsense=1", "data.nonsense is not a setting"),
        ("data.columns.label=nothing", 'has no column "nothing"'),
        ("data.columns.label=other", "labels of .* images differ"),
        ("data.split_seed=7", "images are in another split"),
        ("data.image_side_px=32", "the run takes 64|data.image_side_px"),
    ],
)
def test_what_is_said_of_the_run_s_own_data_is_checked(world, train, word, said):
    one = train()
    with pytest.raises(InputError, match=said) as refused:
        invoke(["evaluate", one, word])
    assert "Traceback" not in str(refused.value)


def test_of_a_run_of_before_it_is_said_that_its_images_are_not_known(world, train, capsys):
    one = train("fit.epochs=2")
    for name in (LAST, BEST):
        path = checkpoint_file(one, name)
        state = checkpoint.read(path)
        checkpoint.write({k: v for k, v in state.items() if k not in ("format", "images", "seen")}, path)
    capsys.readouterr()
    invoke(["evaluate", one, "--split", "val"])
    assert "that labels and pixels are the same is not known" in " ".join(capsys.readouterr().out.split())
    train("fit.epochs=2", f"resume={one}")
    said = capsys.readouterr()
    assert "only ids and split are compared" in said.out + said.err
    with pytest.raises(InputError, match="the split is another"):
        invoke(["evaluate", one, "data.split_seed=7"])
