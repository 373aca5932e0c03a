import csv
from contextlib import nullcontext
from dataclasses import dataclass, replace

import mlflow
import numpy as np
import pytest
import torch
from changing import World
from conftest import SMALL
from mlflow.exceptions import MlflowException

from pneumo.components.models import Tiny
from pneumo.errors import InputError, TooLittleMemoryError
from pneumo.inference.model import load_model
from pneumo.runs import query, tracking
from pneumo.runs.checkpoint import BEST, read
from pneumo.runs.loggers import FurtherLoggers
from pneumo.runs.run import run
from pneumo.runs.tracker import Tracker
from pneumo.training.trainer import Trainer

QUICK = [*SMALL, "fit.epochs=2"]


def only_run():
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return found


def artifacts(run_id, folder=""):
    return {entry.path for entry in mlflow.MlflowClient().list_artifacts(run_id, folder)}


def test_a_model_that_does_not_fit_into_memory_is_said_so(composed, store):
    @dataclass(frozen=True)
    class Huge(Tiny):
        def __call__(self, n_outputs):
            return torch.empty(2**60)

    too_large = replace(composed(*QUICK), model=Huge())
    with pytest.raises(TooLittleMemoryError, match="The model does not fit into memory on cpu"):
        run(too_large, store / "out")


def test_a_run_leaves_everything_that_was_promised(composed, workdir, capsys):
    enough_for_intervals = "data.n_images=800"
    found = run(composed(*SMALL[:-1], enough_for_intervals, "fit.epochs=2", "loss=ce"), workdir / "out")
    logged = only_run()
    metrics, tags, parameters = logged.data.metrics, logged.data.tags, logged.data.params

    assert logged.info.status == "FINISHED"
    assert found["best/val_auroc"] == metrics["best/val_auroc"]
    per_epoch = (
        "train/loss train/accuracy val/loss val/accuracy val/auroc val/auprc val/precision val/recall val/f1"
    )
    for name in [*per_epoch.split(), "val/hard_auroc", "lr", "images_per_second", "epoch_seconds"]:
        history = mlflow.MlflowClient().get_metric_history(logged.info.run_id, name)
        assert [point.step for point in history] == [1, 2], name
    assert metrics["test/auroc_low"] <= metrics["test/auroc"] <= metrics["test/auroc_high"]
    values = query.metrics_of(logged.info.run_id)
    for name in ("auprc", "accuracy", "f1", "hard_auroc", "sensitivity_at_95_specificity"):
        low, high = values[f"test/{name}_low"], values[f"test/{name}_high"]
        assert low <= metrics[f"test/{name}"] <= high, name
    assert {"last/val_auroc", "findings/val_loss_jump", "fit_seconds", "threshold"} <= values.keys()
    assert (values["split/patient_memory_auc"], values["effective_batch"]) == (0.5, 16)

    assert parameters["optimizer.lr"] == "0.003"
    assert parameters["data.split"] == "patient"
    wanted = (
        "git_commit git_dirty overrides host process split_hash data_key collapsed leak_risk config_hash loss"
    )
    assert set(wanted.split()) <= tags.keys()
    assert tags["loss"] in ("ce", "crossentropy")

    assert artifacts(logged.info.run_id) == {"checkpoints", "configuration", "pictures", "results"}
    assert artifacts(logged.info.run_id, "checkpoints") == {"checkpoints/best.pt", "checkpoints/last.pt"}
    assert len(artifacts(logged.info.run_id, "pictures")) == 6
    said = capsys.readouterr().out
    assert "AUROC" in said
    assert "95% interval (patients resampled)" in said
    assert f"mlflow ui, then open {logged.info.run_name}" in said


def test_predictions_are_kept_image_by_image_and_give_the_logged_figures(composed, workdir):
    from sklearn.metrics import roc_auc_score

    run(composed(*QUICK), workdir / "out")
    logged = only_run()
    rows = list(csv.DictReader(query.read_text(logged.info.run_id, "predictions.csv").splitlines()))
    test = [row for row in rows if row["split"] == "test"]
    assert len(test) == int(logged.data.params["split/test_images"])
    auroc = roc_auc_score([int(row["label"]) for row in test], [float(row["score"]) for row in test])
    assert auroc == pytest.approx(logged.data.metrics["test/auroc"], abs=1e-4)
    assert not {r["patient_id"] for r in test} & {r["patient_id"] for r in rows if r["split"] == "val"}


def test_the_test_split_is_not_touched_when_it_is_off(composed, workdir):
    run(composed(*QUICK, "fit.test=false"), workdir / "out")
    logged = only_run()
    assert not [name for name in logged.data.metrics if name.startswith("test/")]
    assert ",test\n" not in query.read_text(logged.info.run_id, "predictions.csv")


WITHOUT_LEARNING = [
    *("optimizer=sgd", "optimizer.lr=3e-5", "fit.rescue=false"),
    *("fit.precision=fp32", "model.mask_head=false"),
]
LONG_ENOUGH = ["data.n_images=700", "fit.batch_size=6", "fit.epochs=4"]  # 328 optimizer steps


def test_a_run_that_learns_nothing_says_that_it_collapsed_and_why(composed, workdir, capsys):
    run(composed(*QUICK, *LONG_ENOUGH, *WITHOUT_LEARNING), workdir / "out")
    logged = only_run()
    assert logged.data.tags["collapsed"] == "true"
    assert "; try experiment=auto" in logged.data.tags["collapse_reason"]
    said = capsys.readouterr().out
    assert "COLLAPSED: 106 of 106 test images are called positive at P = .5" in said
    assert f"Likely: {logged.data.tags['collapse_reason']}" in said
    assert "The recall of .92 above is at a threshold of .64." in said  # as the table says beside it


def test_the_reports_crop_is_named_as_the_likely_reason(composed, workdir, capsys):
    run(composed(*QUICK, *LONG_ENOUGH, *WITHOUT_LEARNING, "augment=report"), workdir / "out")
    assert "its crop loses the whole lesion in" in only_run().data.tags["collapse_reason"]


def test_a_short_training_on_few_images_is_not_called_collapsed(composed, workdir, capsys):
    run(composed(*QUICK, *WITHOUT_LEARNING, "fit.epochs=2"), workdir / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "TOO SHORT TO JUDGE: " in said
    assert " From 2 epochs of 7 optimizer steps, 8 positive patients to learn from, " in said
    assert "COLLAPSED" not in said
    assert only_run().data.tags["collapsed"] == "too short to judge"
    assert "collapse_reason" not in only_run().data.tags


def test_positive_patients_are_not_spoken_of_where_patients_are_not_known(composed, workdir, capsys):
    few = World(workdir / "data", n_images=80).overrides("data.columns.patient=null")
    run(composed(*few, *WITHOUT_LEARNING, "fit.epochs=1", "fit.pictures=false"), workdir / "out")
    said = capsys.readouterr().out
    assert "positive images to learn from" in said
    assert "positive patient" not in said


@pytest.mark.parametrize("annotated", [True, False])
def test_a_mask_head_is_there_where_masks_are_and_the_model_loads_either_way(composed, workdir, annotated):
    masks = [f"data.columns.mask={'mask' if annotated else 'none'}"]
    run(composed(*World(workdir / "data", n_images=80).overrides(*masks)), workdir / "out")
    weights = read(workdir / "out" / "checkpoints" / BEST)["model"]
    assert any(name.startswith("mask_head.") for name in weights) == annotated
    assert (load_model(only_run().info.run_id).model.mask_head is not None) == annotated


def test_a_frozen_backbone_has_no_mask_head_unless_it_is_asked_for(composed):
    frozen = composed(*SMALL, "model.freeze=backbone").model
    assert frozen.gives_features
    assert frozen(1).mask_head is None
    assert composed(*SMALL, "model.freeze=backbone", "model.mask_head=true").model(1).mask_head is not None


def test_a_run_id_of_ours_is_a_warm_start_for_another_loss(composed, workdir):
    run(composed(*QUICK, "loss=ce"), workdir / "first")
    first = only_run().info.run_id
    run(composed(*QUICK, f"model.pretrained={first}", "loss=bce", "optimizer.lr=1e-9"), workdir / "second")
    before = read(workdir / "first" / "checkpoints" / BEST)["model"]
    after = read(workdir / "second" / "checkpoints" / BEST)["model"]
    name = "backbone.0.weight"
    assert np.abs(after[name].numpy() - before[name].numpy()).max() < 1e-5
    assert len(after["head.weight"]) == 1


def test_a_mask_head_that_the_model_has_no_place_for_is_said_to_be_left_out(
    composed, one_run, workdir, capsys
):
    weights = one_run[0] / "out" / "checkpoints" / BEST
    small = [*SMALL, "model.width=4", "fit.epochs=1", f"model.pretrained={weights}"]
    run(composed(*small, "model.mask_head=false"), workdir / "out")
    note = f"the mask head of model.pretrained={weights} is left out"
    assert note in " ".join(capsys.readouterr().out.split())
    run(composed(*small), workdir / "with")
    assert "left out" not in capsys.readouterr().out


def test_an_unknown_run_id_is_refused_before_anything_is_read(composed, workdir):
    for key in ("model.pretrained", "resume"):
        with pytest.raises(InputError, match="has no run 0123"):
            run(composed(*QUICK, f"{key}='{'0123' * 8}'"), workdir / "out")
    assert not (workdir / "stores").exists()


def test_a_failed_run_is_marked_with_its_reason(composed, workdir):
    with pytest.raises(RuntimeError, match="The loss is"):
        run(composed(*QUICK, "optimizer=sgd", "optimizer.lr=1e18", "fit.precision=fp32"), workdir / "out")
    logged = only_run()
    assert logged.info.status == "FAILED"
    assert "images phantom" in logged.data.tags["failure"]


@pytest.mark.parametrize(
    ("refusal", "again"),
    [
        ("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id", True),
        ("(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint", True),
        ("(sqlite3.OperationalError) database is locked", False),
    ],
)
def test_data_that_another_process_names_at_the_same_moment_are_named(store, monkeypatch, refusal, again):
    refusals, log_inputs = [MlflowException(refusal)], mlflow.MlflowClient.log_inputs

    def refused_first(*given):
        if refusals:
            raise refusals.pop()
        log_inputs(*given)

    monkeypatch.setattr(mlflow.MlflowClient, "log_inputs", refused_first)
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    with nullcontext() if again else pytest.raises(MlflowException, match="locked"):
        tracking.log_dataset(run_id, "phantom", "abc", {"train": {"images": 3}})
    named = mlflow.get_run(run_id).inputs.dataset_inputs
    assert [one.dataset.name for one in named] == ["phantom-train"] * again


@pytest.mark.parametrize(("part", "name"), [(FurtherLoggers, "of"), (Tracker, "log_artifact")])
def test_a_run_is_stopped_where_it_is_interrupted_as_it_starts_or_as_it_ends(
    composed, workdir, monkeypatch, part, name
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(part, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(composed(*SMALL, "fit.epochs=1"), workdir / "out")
    assert mlflow.active_run() is None  # MLflow would end it as FINISHED
    assert only_run().info.status == "KILLED"


def test_relabelling_without_any_mask_is_refused(composed, workdir, monkeypatch):
    from conftest import store_of

    from pneumo.runs import callback as module

    def maskless(*_):
        dataset = load_dataset(*_)
        return type(dataset)(dataset.cohort, store_of(np.asarray(dataset.store.pixels)), dataset.split)

    load_dataset = module.load_dataset
    monkeypatch.setattr(module, "load_dataset", maskless)
    with pytest.raises(InputError, match=r"augment\.relabel=true needs lesion masks"):
        run(composed(*QUICK, "augment=report", "augment.relabel=true"), workdir / "out")


def test_the_tracking_address_is_obeyed_and_its_password_not_shown(composed, workdir, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workdir}/elsewhere.db")
    run(composed(*QUICK, "fit.test=false"), workdir / "out")
    assert (workdir / "elsewhere.db").exists()
    assert not (workdir / "mlflow.db").exists()
    assert "elsewhere.db" in capsys.readouterr().out
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://me:secret@runs.example.org")
    assert tracking.store_name() == "https://runs.example.org"


def test_a_profile_names_the_costliest_operations(composed, workdir):
    run(composed(*SMALL, "debug=profile", "fit.batch_size=4"), workdir / "out")
    logged = only_run()
    assert artifacts(logged.info.run_id, "profile") == {"profile/operations.txt", "profile/trace.json.gz"}
    table = mlflow.artifacts.load_text(f"{logged.info.artifact_uri}/profile/operations.txt")
    assert "aten::convolution_backward" in table


def test_an_epoch_too_short_for_a_profile_is_trained_without_one_and_it_is_said(composed, workdir, capsys):
    run(composed(*SMALL, "debug=profile", "fit.batch_size=112"), workdir / "out")
    logged = only_run()
    assert logged.info.status == "FINISHED"
    assert "profile" not in artifacts(logged.info.run_id)
    said = " ".join(capsys.readouterr().out.split())
    assert "fit.profile=true: the training has 1 step, and the first 4 are not profiled" in said


def test_a_smaller_batch_is_tagged_again_where_mlflow_was_away(composed, workdir, monkeypatch):
    backward, tag, asked = Trainer._backward, Tracker.tag, []

    def small_memory(self, train_state, *rest):
        if train_state.micro_batch > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return backward(self, train_state, *rest)

    def away_at_first(self, **tags):
        if "micro_batch" in tags:
            asked.append(tags)
            if len(asked) == 1:
                raise MlflowException("Connection refused")
        tag(self, **tags)

    monkeypatch.setattr(Trainer, "_backward", small_memory)
    monkeypatch.setattr(Tracker, "tag", away_at_first)
    run(composed(*QUICK), workdir / "out")
    logged = only_run()
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["micro_batch"] == "8"
    assert len(asked) == 2


def test_few_images_are_learned_and_judged_alone(composed, workdir, capsys):
    run(composed(*SMALL, "fit.few_images=8", "fit.epochs=1", "augment=none"), workdir / "out")
    said = capsys.readouterr().out
    assert "fit.few_images=8: trained, validated and tested on the same 8 images" in said
    assert "test, 8 images" in said
    assert "4 positive" in said


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_two_images_are_enough_for_the_pictures(composed, workdir, augment, capsys):
    two = ["fit.few_images=2", "fit.epochs=1", "fit.pictures=true"]
    run(composed(*SMALL, *two, f"augment={augment}"), workdir / "out")
    said = capsys.readouterr().out
    assert "2 / 2 / 2, may leak: judged on its training images\n" in said
    pictures = mlflow.MlflowClient().list_artifacts(only_run().info.run_id, "pictures")
    assert "pictures/1-augmented.png" in {file.path for file in pictures}


def test_determinism_is_asked_of_torch_for_this_run_alone(composed, workdir):
    run(composed(*QUICK, "fit.deterministic=true", "fit.epochs=1"), workdir / "out")
    assert torch.are_deterministic_algorithms_enabled()
    run(composed(*QUICK, "fit.epochs=1"), workdir / "out")
    assert not torch.are_deterministic_algorithms_enabled()


def test_compiling_without_a_compiler_is_refused(composed, workdir, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        InputError, match="needs a C\\+\\+ compiler on a CPU, and no-such-compiler is not found"
    ):
        run(composed(*QUICK, "fit.compile=true"), workdir / "out")


def test_a_frozen_backbone_is_asked_once(composed, workdir):
    frozen = [*SMALL, "model.freeze=backbone", "augment=none", "fit.epochs=3", "fit.test=true"]
    run(composed(*frozen), workdir / "out")
    assert len(list((workdir / "stores").glob("*/features-*.npz"))) == 1
    on_features = only_run().data.metrics
    run(composed(*frozen, "fit.cache_features=null"), workdir / "out")
    (from_images,) = mlflow.search_runs(
        search_all_experiments=True,
        filter_string="params.`fit.cache_features` = 'None'",
        output_format="list",
    )
    assert on_features["test/auroc"] == pytest.approx(from_images.data.metrics["test/auroc"], abs=0.005)
