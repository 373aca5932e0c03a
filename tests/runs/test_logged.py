"""What is a metric in MLflow, what a parameter, and that runs of before are read as those of now."""

import json

import mlflow
import numpy as np
import pytest

from pneumo.evaluation.metrics import bootstrap_intervals
from pneumo.runs import query
from pneumo.runs.logged import finite, is_constant, metrics_in, results_json, summary_metrics, values_of
from pneumo.runs.results import SplitResult
from pneumo.training.predict import Predictions


@pytest.fixture
def stored(one_run, monkeypatch):
    """The MLflow run of `one_run`, which is read only."""
    folder, run_id, _ = one_run
    monkeypatch.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    return mlflow.get_run(run_id)


def test_a_finished_run_has_fewer_than_40_metrics_and_all_change_or_rank_runs(stored):
    added_later = ("system/", "eval/")  # by MLflow, and where another test has evaluated the run
    names = {name for name in stored.data.metrics if not name.startswith(added_later)}
    assert len(names) < 40
    assert {name.partition("/")[0] for name in names if "/" in name} == {"train", "val", "best", "test"}
    assert not {name for name in names if is_constant(name)}


def test_constants_are_parameters_and_have_the_same_values_when_they_are_read(stored):
    values = values_of(stored)
    for name in ("split/train_images", "split/test_prevalence", "effective_batch", "normalise_mean"):
        assert values[name] == float(stored.data.params[name])
    assert values["split/train_prevalence"] == values["split/train_positives"] / values["split/train_images"]
    assert values["threshold"] == float(stored.data.tags["threshold"])


def test_a_run_of_before_whose_constants_are_metrics_is_read_the_same(stored):
    client, values = mlflow.MlflowClient(), values_of(stored)
    old = client.create_run(stored.info.experiment_id)
    for name, value in values.items():
        client.log_metric(old.info.run_id, name, value)
    assert values_of(client.get_run(old.info.run_id)) == values
    client.delete_run(old.info.run_id)


def test_every_value_is_in_the_results_with_its_interval(stored):
    results = json.loads(query.read_text(stored.info.run_id, "results.json"))
    assert len(results["epochs"]) == 1
    table = mlflow.artifacts.load_text(f"runs:/{stored.info.run_id}/results/predictions.csv")
    rows = [line.split(",") for line in table.splitlines()[1:] if line.endswith(",test")]
    patients, labels, scores = zip(*[(row[1], int(row[2]), float(row[3])) for row in rows], strict=True)
    threshold = results["splits"]["test"]["threshold"]
    found = bootstrap_intervals(np.array(labels), np.array(scores), np.array(patients), threshold)
    assert results["splits"]["test"]["intervals"] == {
        name: finite(list(ends)) for name, ends in found.items()
    }
    values = query.metrics_of(stored.info.run_id)
    assert values["last/val_auroc"] == stored.data.metrics["val/auroc"]


def test_intervals_are_read_from_the_results_by_the_names_of_their_metrics():
    labels, scores = np.tile([1, 0], 20), np.linspace(1, 0, 40)
    predictions = Predictions(np.arange(40), labels, scores[:, None], scores, 0.5)
    result = SplitResult.of(predictions, np.arange(40), 0.5)
    values = metrics_in(results_json({"last/val_f1": 0.5}, [], {"test": result}))
    assert (values["test/f1_low"], values["test/f1_high"]) == result.intervals["f1"]
    assert values["test/auroc"] == result.metrics["auroc"]
    assert values["last/val_f1"] == 0.5


def test_the_best_of_what_a_study_optimizes_is_a_metric_too():
    metrics = {"best/val_auroc": 0.9, "best/val_f1": 0.5, "last/val_f1": 0.4, "fit_seconds": 3.0}
    assert summary_metrics(metrics) == {"best/val_auroc": 0.9, "fit_seconds": 3.0}
    assert summary_metrics(metrics, ["val/f1"]) == {
        "best/val_auroc": 0.9,
        "best/val_f1": 0.5,
        "fit_seconds": 3.0,
    }


def test_what_is_not_finite_is_null():
    assert finite({"a": [float("nan"), 1.0], "b": {"c": float("-inf")}}) == {
        "a": [None, 1.0],
        "b": {"c": None},
    }


def test_the_data_of_a_run_are_named_by_their_identity_in_each_split(stored):
    inputs = {
        one.tags[0].value: (one.dataset.name, one.dataset.digest, json.loads(one.dataset.profile)["images"])
        for one in stored.inputs.dataset_inputs
    }
    values, identity = values_of(stored), stored.data.tags["data_identity"]
    assert inputs == {
        split: (f"phantom-{split}", identity, values[f"split/{split}_images"])
        for split in ("train", "val", "test")
    }


def test_a_run_describes_itself_with_its_result_and_its_command(stored):
    text = stored.data.tags["mlflow.note.content"]
    assert text.startswith("tiny with bce on ")
    assert "Validation AUROC ." in text
    assert "test AUROC ." in text
    assert "`python train.py" in text


def test_the_experiment_is_one_of_model_training_with_a_view_and_a_description_that_links_to_it(stored):
    tags = mlflow.get_experiment(stored.info.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(tags["mlflow.sharedViewState.pneumo"])
    assert view["selectedColumns"][:2] == ["metrics.`best/val_auroc`", "metrics.`test/auroc`"]
    assert "viewStateShareKey=pneumo" in tags["mlflow.note.content"]
