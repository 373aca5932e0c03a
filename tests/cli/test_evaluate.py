"""Runs and files of predictions, evaluated as a user would."""

import io
import json
import re

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import SMALL, Named
from sklearn.metrics import roc_auc_score

from pneumo.cli.app import invoke
from pneumo.data.dataset import load_dataset
from pneumo.errors import InputError
from pneumo.runs import query
from pneumo.runs.run import run


@pytest.fixture
def trained_runs(workdir, composed):
    def make(*overrides):
        ids = []
        for given in overrides:
            callback = Named()
            run(
                composed(*SMALL, "model.width=4", "fit.epochs=1", *given),
                workdir / f"out-{len(list(workdir.iterdir()))}",
                callback,
            )
            ids.append(callback.run_id)
        return ids

    return make


def json_of(run_id, place):
    return json.loads(query.read_text(run_id, f"evaluation/{place}/evaluation.json"))


def places(run_id):
    """The names of the evaluations of a run."""
    return [file.path.split("/")[1] for file in mlflow.MlflowClient().list_artifacts(run_id, "evaluation")]


def csv_of(run_id, path):
    return pd.read_csv(io.StringIO(query.read_text(run_id, path)))


@pytest.mark.parametrize("words", [["evaluate"], ["compare"]])
def test_the_test_split_counts_as_evaluated_before_its_metrics_are_shown(trained_runs, monkeypatch, words):
    ids = trained_runs((), ("seed=1",))
    before = evaluations(ids[0])

    def fails(sections, terminal):
        raise RuntimeError("the terminal is gone")

    monkeypatch.setattr("pneumo.display.pages.print_sections", fails)
    with pytest.raises(RuntimeError, match="is gone"):
        invoke([*words, *ids])
    assert evaluations(ids[0]) == before + 1


def test_a_run_an_ensemble_and_two_against_each_other(trained_runs, capsys):
    many = "data.n_images=800"  # enough patients for intervals
    one, two, other = trained_runs((many,), (many, "seed=1", "loss=ce"), (many, "data.split_seed=1"))
    capsys.readouterr()
    invoke(["evaluate", one])
    said = capsys.readouterr().out
    assert "The test split has now been evaluated 2 times: the more often" in said
    own = csv_of(one, "predictions.csv").query("split == 'test'")
    found = json_of(one, "phantom-test-none")
    assert found["metrics"]["auroc"] == pytest.approx(roc_auc_score(own["label"], own["score"]), abs=1e-9)
    metrics = query.metrics_of(one)
    assert metrics["eval/test/auroc"] == pytest.approx(metrics["test/auroc"])
    assert metrics["eval/test/recall"] == pytest.approx(metrics["test/recall"])
    assert metrics["eval/test/auroc_low"] == pytest.approx(metrics["test/auroc_low"])

    invoke(["evaluate", one, two, "--split", "val", "--tta", "hflip"])
    (ensemble,) = mlflow.search_runs(filter_string=f"tags.members = '{one} {two}'", output_format="list")
    assert ensemble.info.status == "FINISHED"
    joint = csv_of(ensemble.info.run_id, "evaluation/phantom-val-hflip/predictions.csv")
    singles = []
    for run_id in (one, two):
        invoke(["evaluate", run_id, "--split", "val", "--tta", "hflip"])
        singles.append(csv_of(run_id, "evaluation/phantom-val-hflip/predictions.csv")["score"])
    odds = np.mean([np.log(score / (1 - score)) for score in singles], axis=0)
    assert np.allclose(np.log(joint["score"] / (1 - joint["score"])), odds, atol=1e-3)

    capsys.readouterr()
    invoke(["compare", one, two, "--split", "val"])
    assert "difference, DeLong (p" in capsys.readouterr().out
    assert "DeLong" in query.read_text(two, f"evaluation/phantom-val-none/against-{one}.md")
    before = evaluations(one), evaluations(two)
    invoke(["compare", one, two])
    assert (evaluations(one), evaluations(two)) == (before[0] + 1, before[1] + 1)
    assert "The test split has now been evaluated" in capsys.readouterr().out
    with pytest.raises(InputError, match="have other images in val"):
        invoke(["compare", one, other, "--split", "val"])
    with pytest.raises(InputError, match="were split differently"):
        invoke(["evaluate", one, other])


def test_runs_of_images_that_differ_under_the_same_ids_are_compared_on_named_data_alone(
    trained_runs, composed, capsys
):
    many = "data.n_images=400"
    one, other = trained_runs((many,), (many, "data.style=crisp"))
    with pytest.raises(InputError, match="60 differ under the same ids; name a data set to compare both on"):
        invoke(["compare", one, other])
    capsys.readouterr()
    named = ["data=phantom", many, "data.style=crisp", "data.image_side_px=64"]
    invoke(["compare", one, other, *named, "--split", "test"])
    told = capsys.readouterr().out
    assert f"{query.run_name(other)}: 280 of its images were trained on" in told
    dataset = load_dataset(composed(*SMALL, many).data, lambda done, total: None)
    n_patients = len(np.unique(dataset.patients[dataset.split.train]))
    assert f"{query.run_name(one)}: {n_patients} ids of its patients were trained on" in told


def evaluations(run_id):
    return int(query.find_run(run_id).data.tags.get("test_evaluations", 1))


def test_a_refused_evaluation_does_not_count_as_one_of_the_test_split(trained_runs, tmp_path):
    (run_id,) = trained_runs(())
    with pytest.raises(InputError, match=r"--hard-negatives tube needs data\.patients_csv"):
        invoke(["evaluate", run_id, "--hard-negatives", "tube"])
    assert evaluations(run_id) == 1
    assert not query.has_file(run_id, "evaluation")


def test_an_evaluation_decides_as_the_run_and_its_predictions_do(trained_runs, workdir):
    """By the run's own test-time augmentation and threshold; others are named."""
    (run_id,) = trained_runs(("tta=hflip", "data.n_images=300"))
    invoke(["evaluate", run_id, "--maps", "none"])
    invoke(["evaluate", run_id, "--maps", "none", "--tta", "none"])
    metrics = query.metrics_of(run_id)
    assert json_of(run_id, "phantom-test-hflip")["threshold"] == pytest.approx(metrics["threshold"], abs=1e-6)
    for name in ("auroc", "recall", "specificity"):
        assert metrics[f"eval/test/{name}"] == pytest.approx(metrics[f"test/{name}"])
    assert "eval/phantom-test-none/auroc" in metrics
    text = query.read_text(run_id, "evaluation/phantom-test-hflip/evaluation.md")
    assert "Test-time augmentation: hflip." in text


def test_validation_images_flatter_and_the_page_says_so(trained_runs):
    (run_id,) = trained_runs(())
    invoke(["evaluate", run_id, "--split", "val", "--maps", "none"])
    text = query.read_text(run_id, "evaluation/phantom-val-none/evaluation.md")
    assert "threshold and Platt scaling were chosen on these images" in text


def test_another_data_set_is_judged_by_the_run_s_own_threshold(trained_runs, capsys):
    (run_id,) = trained_runs(())
    invoke(["evaluate", run_id, "--split", "val"])
    own = json_of(run_id, "phantom-val-none")
    capsys.readouterr()
    invoke(["evaluate", run_id, "data=phantom", "data.seed=5", "data.n_images=120"])
    (place,) = {*places(run_id)} - {"phantom-val-none"}
    assert re.fullmatch(r"phantom-1-[0-9a-f]{8}-all-none", place)
    found = json_of(run_id, place)
    assert found["n_images"] == 120
    assert (found["threshold"], found["scaling"]) == (own["threshold"], own["scaling"])
    assert "patients" in capsys.readouterr().out
    metrics = query.metrics_of(run_id)
    assert metrics[f"eval/{place}/auroc"] == pytest.approx(found["metrics"]["auroc"])
    assert metrics["eval/val/auroc"] == pytest.approx(own["metrics"]["auroc"])
    invoke(["evaluate", run_id, "data=phantom", "data.seed=5", "data.n_images=20"])  # too few to be divided
    (few,) = {*places(run_id)} - {"phantom-val-none", place}  # beside the other, which it does not replace
    assert (json_of(run_id, few)["n_images"], json_of(run_id, place)["n_images"]) == (20, 120)
    assert {one["kind"] for one in found["subgroups"]} == {"lesion", "view", "sex", "age"}
    with pytest.raises(InputError, match="but the run takes 64"):
        invoke(["evaluate", run_id, "data=phantom", "data.image_side_px=128"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "best"], "There is no mlflow.db in .*, so the run 'best' cannot be found"),
        (["evaluate", "0" * 31], "so the run '0{31}' cannot be found"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line(workdir, words, said):
    with pytest.raises(InputError, match=said):
        invoke(words)


@pytest.fixture
def predictions(workdir):
    random = np.random.default_rng(0)
    labels = np.arange(200) % 3 == 0
    table = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(200)],
            "label": labels.astype(int),
            "score": np.round(1 / (1 + np.exp(-(random.normal(-1, 1, 200) + 2 * labels))), 6),
            "patient_id": [f"p{n // 2}" for n in range(200)],
            "split": ["val", "test"] * 100,
        }
    )

    def write(**changed):
        table.assign(**changed).to_csv("preds.csv", index=False)
        return table

    return write


def test_predictions_of_any_model_are_scored(predictions, workdir, capsys):
    table = predictions()
    invoke(["score", "preds.csv"])
    found = json.loads((workdir / "preds.evaluation.json").read_text())
    test = table.query("split == 'test'")
    assert found["n_images"] == 100
    assert found["metrics"]["auroc"] == pytest.approx(roc_auc_score(test["label"], test["score"]), abs=1e-9)
    assert "Threshold and Platt scaling from the 100 rows of val." in capsys.readouterr().out
    assert {file.suffix for file in workdir.glob("preds.evaluation.*")} == {".md", ".html", ".json"}

    predictions(split="", patient_id="")
    pd.DataFrame({"image_id": table["image_id"], "view": ["AP", "PA"] * 100}).to_csv("who.csv", index=False)
    invoke(["score", "preds.csv", "--threshold", "0.3", "--patients-csv", "who.csv"])
    found = json.loads((workdir / "preds.evaluation.json").read_text())
    assert found["threshold"] == pytest.approx(0.3)
    assert "200 images of unknown patients" in capsys.readouterr().out
    assert [one["name"] for one in found["subgroups"]] == ["AP", "PA"]


def test_a_table_of_patients_fills_what_the_predictions_lack(predictions, workdir, capsys):
    table = predictions(patient_id="")
    who = pd.DataFrame({"ImageId": table["image_id"], "patient_id": table["patient_id"]})
    who[:150].to_csv("who.csv", index=False)
    invoke(["score", "preds.csv", "--patients-csv", "who.csv"])
    said = " ".join(capsys.readouterr().out.split())
    assert "100 images of 100 patients" in said  # each patient has an image in val and one in test
    assert "who.csv: 50 of 200 images are not in it. 50 rows have no patient" in said


def test_only_test_rows_are_scored_and_a_threshold_that_is_given_holds(predictions, workdir):
    predictions(split=["train", "test"] * 100)
    invoke(["score", "preds.csv"])
    without_val = json.loads((workdir / "preds.evaluation.json").read_text())
    assert (without_val["n_images"], without_val["threshold"]) == (100, 0.5)
    assert without_val["scaling"] == {"slope": 1, "intercept": 0}
    predictions()
    invoke(["score", "preds.csv", "--threshold", "0.3"])
    given = json.loads((workdir / "preds.evaluation.json").read_text())
    assert given["threshold"] == pytest.approx(0.3)
    assert given["scaling"]["slope"] != 1


@pytest.mark.parametrize(
    ("changed", "words", "said"),
    [
        ({"score": [float("nan")] + [0.5] * 199}, [], r'row 2  score is "", must be a number from 0 to 1'),
        ({"score": [1.5] + [0.5] * 199}, [], r'row 2  score is "1.5", must be a number from 0 to 1'),
        ({"lesion_share": [3.2] + [0.01] * 199}, [], r'row 2  lesion_share is "3.2", must be from 0 to 1'),
        ({"label": [2] + [1] * 199}, [], r'row 2  label is "2", must be 0 or 1'),
        ({"label": 1, "split": ""}, [], "all 200 labels are 1: there is nothing to rank"),
        ({}, ["--score", "probability"], 'has no column "probability"'),
        ({"split": ""}, ["--threshold", "2"], "threshold must lie between 0 and 1, got 2"),
        ({"split": "holdout"}, [], 'row 2  split is "holdout", not train, val, valid, validation, test'),
        (
            {"split": ["train", "val"] * 100},
            [],
            "all 200 rows have split train or val: there are none",
        ),
        ({}, ["--patient", "person"], 'has no column "person"'),
        ({}, ["--hard-negatives", "tube"], 'has no column "tube"'),
        ({"image_id": "same"}, [], 'row 3  image_id is "same", which is there already'),
        ({}, ["--patients-csv", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_predictions_that_cannot_be_scored_leave_nothing(predictions, workdir, changed, words, said):
    predictions(**changed)
    with pytest.raises(InputError, match=said):
        invoke(["score", "preds.csv", *words])
    assert not list(workdir.glob("*evaluation*"))
