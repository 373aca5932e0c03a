"""A run's best model, from its id alone."""

import io
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Named
from logged_runs import let_small_runs_compete

from pneumo.data.batches import Batches
from pneumo.data.dataset import first_images, load_dataset
from pneumo.errors import InputError
from pneumo.inference import model as model_module
from pneumo.inference.model import load_model
from pneumo.inference.saliency import hires_cam
from pneumo.runs import checkpoint, query, tracking
from pneumo.runs.run import run
from pneumo.training.device import available_devices
from pneumo.training.predict import tta_transforms


@pytest.fixture
def finished(workdir, composed):
    """The id of a run."""

    def make(*overrides):
        callback = Named()
        run(
            composed(*SMALL, "model.width=4", "fit.epochs=1", *overrides),
            workdir / f"out-{len(list(workdir.iterdir()))}",
            callback,
        )
        return callback.run_id

    return make


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("loss=weighted_bce", "data.normalise=train", "augment=report"),
        ("loss=weighted_bce", "fit.few_images=16"),
        ("loss=weighted_bce", "loss.label_smoothing=.2"),
        ("loss=ce", "loss.label_smoothing=.1"),
    ],
)
def test_a_run_s_scores_come_out_of_its_id_alone(finished, overrides):
    run_id = finished(*overrides)
    model = load_model(run_id)
    table = pd.read_csv(io.StringIO(query.read_text(run_id, "predictions.csv"))).query("split == 'test'")
    dataset = first_images(
        load_dataset(model.experiment.data, lambda done, total: None), model.experiment.fit.few_images
    )
    batches = Batches(dataset.store, dataset.labels, model.accelerator.device, 0)
    rows = dataset.split.test
    scores = model.scores_of_rows(batches, rows, tta_transforms("none"))
    assert np.array_equal(dataset.cohort.table["image_id"].to_numpy()[rows], table["image_id"])
    assert np.allclose(scores, table["score"], atol=1e-6)


def test_the_weight_of_few_images_is_that_of_those_images(finished):
    run_id = finished("loss=weighted_bce", "fit.few_images=10")
    logged = query.metrics_of(run_id)
    assert [logged[f"split/train_{name}"] for name in ("images", "positives", "prevalence")] == [10, 5, 0.5]
    assert load_model(run_id).loss.weight == 1


def test_a_run_of_before_is_scored_as_it_was_then(finished):
    run_id = finished("loss=weighted_bce", "loss.label_smoothing=.2", "fit.few_images=10")
    client = mlflow.MlflowClient()
    client.delete_tag(run_id, "score_format")
    for name, value in (("images", 112), ("positives", 25), ("prevalence", 25 / 112)):  # of the whole split
        client.log_metric(run_id, f"split/train_{name}", value)
    loss = load_model(run_id).loss
    assert loss.weight == 1
    assert float(loss.probability(torch.tensor([[1.5]]))) == pytest.approx(1 / (1 + np.exp(-1.5)))


def test_best_is_the_finished_run_of_the_highest_val_auroc(finished, monkeypatch):
    let_small_runs_compete(monkeypatch)
    runs = [finished(f"seed={seed}", f"optimizer.lr={lr}") for seed, lr in enumerate((1e-6, 3e-3))]
    best = max(runs, key=lambda run_id: query.metrics_of(run_id)["best/val_auroc"])
    assert load_model("best").run_id == best


def test_what_is_no_run_of_ours_is_said(finished):
    tracking.connect()
    with pytest.raises(InputError, match="has no finished run"):
        load_model("best")
    with pytest.raises(InputError, match=r"mlflow\.db has no run nonsense"):
        load_model("nonsense")
    with pytest.raises(InputError, match=f"has no run {'0' * 32}"):
        load_model("0" * 32)


def test_a_checkpoint_that_is_gone_broken_or_another_model_s_is_said(finished, workdir):
    run_id = finished()
    path = query.checkpoint_file(run_id, checkpoint.BEST)
    state = checkpoint.read(path)
    checkpoint.write({**state, "model": {"head.weight": torch.zeros(3)}}, path)
    with pytest.raises(InputError, match="is of another model than run"):
        load_model(run_id)
    path.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    with pytest.raises(InputError, match="is not a file of weights"):
        load_model(run_id)
    assert not (workdir / "executed").exists()
    path.unlink()
    assert load_model(run_id).threshold > 0, "the copy among the run's files"


def test_a_checkpoint_that_another_run_has_written_over_is_said(finished):
    run_id = finished()
    path = query.checkpoint_file(run_id, checkpoint.BEST)
    checkpoint.write({**checkpoint.read(path), "run_id": "f" * 32}, path)
    with pytest.raises(InputError, match="belongs to another run, ffff"):
        load_model(run_id)


def test_a_run_without_a_best_model_is_said(finished, monkeypatch):
    run_id = finished()
    monkeypatch.setattr(query, "find_checkpoint", lambda run, file: None)
    with pytest.raises(InputError, match=r"has no best\.pt"):
        load_model(run_id)


def test_a_run_of_a_device_that_is_not_here_is_used_on_one_that_is(finished, monkeypatch):
    run_id = finished()
    there = model_module.experiment_of(run_id)
    elsewhere = replace(there, fit=replace(there.fit, device="mps"))
    monkeypatch.setattr(model_module, "experiment_of", lambda run_id: elsewhere)
    assert load_model(run_id).accelerator.device.type in available_devices()


@pytest.mark.parametrize("most", [1, 3])
def test_scores_are_the_same_where_the_memory_holds_fewer_images(finished, monkeypatch, most):
    model = load_model(finished())
    dataset = load_dataset(model.experiment.data, lambda done, total: None)
    batches = Batches(dataset.store, dataset.labels, model.accelerator.device, 0)
    rows, transforms = dataset.split.val, tta_transforms("hflip")
    images = torch.from_numpy(dataset.store.pixels[rows])[:, None]
    before = model.scores_of_rows(batches, rows, transforms), hires_cam(model, images[:5])
    forward = model.model.forward

    def limited(images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(images)

    monkeypatch.setattr(model.model, "forward", limited)
    assert model.scores_of_rows(batches, rows, transforms) == pytest.approx(before[0], abs=1e-6)
    assert model.scores(images, transforms) == pytest.approx(before[0], abs=1e-6)
    assert hires_cam(model, images[:5]) == pytest.approx(before[1], abs=1e-5)
