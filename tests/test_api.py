"""pneumo in Python: it does what the commands do."""

import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SMALL, Named
from nbclient import NotebookClient
from PIL import Image

import pneumo
from pneumo.cli.app import invoke
from pneumo.errors import InputError
from pneumo.runs import collapse, query, tracking
from pneumo.runs.listing import COLUMNS
from pneumo.runs.run import run

TINY = [*SMALL, "model.width=4", "fit.epochs=1"]


def test_importing_pneumo_imports_neither_torch_nor_mlflow_and_its_names_are_known():
    program = (
        "import sys, pneumo; assert {'train', 'load', 'runs', 'compare'} <= set(dir(pneumo))\n"
        "sys.exit(bool({'torch', 'mlflow', 'pandas', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        pneumo.trian  # noqa: B018


def test_predictions_are_those_of_the_command(there, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    loaded = pneumo.load(there[:8])
    table = loaded.predict(tmp_path)
    invoke(["predict", there, str(tmp_path), "--out", str(tmp_path / "out.csv")])
    printed = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == list(printed.columns)
    assert list(table["path"]) == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert table["score"].tolist() == pytest.approx(printed["score"].tolist(), nan_ok=True)
    assert "is not a readable image" in table["error"][1]


def test_the_own_images_are_called_at_the_threshold_of_the_run(there):
    loaded = pneumo.load(there)
    val, logged = loaded.predictions("val"), query.metrics_of(there)
    assert len(val) == logged["split/val_images"]
    assert (val["called"] == (val["score"] >= logged["threshold"])).all()
    assert any("wrong" in caption for caption in loaded.gallery("val"))


def test_loading_warns_of_what_a_run_may_not_be_trusted_for(there):
    tags = query.find_run(there).data.tags
    tracking.tag_run(there, collapsed=collapse.CHANCE, leak_risk="image split")
    try:
        with pytest.warns(UserWarning, match=r"^run .*: It") as warned:
            loaded = pneumo.load(there)
    finally:  # the run is shared
        tracking.tag_run(there, collapsed=tags["collapsed"], leak_risk=tags["leak_risk"])
    assert loaded.cautions == (
        "Its validation and test images may not be new to it: image split.",
        "It is not shown to rank better than chance: the interval of its AUROC reaches .5.",
    )
    said = [str(one.message) for one in warned if one.filename == __file__]
    assert said == [f"run {loaded.name}: {caution}" for caution in loaded.cautions]


def test_ids_of_images_and_patients_are_the_text_that_they_were(there, monkeypatch):
    text = (
        "image_id,patient_id,label,score,split\n00000013,NA,1,0.5,val\n1e5,,0,0.25,val\nnull,007,0,0.5,test\n"
    )
    loaded = pneumo.load(there)
    monkeypatch.setattr(query, "read_text", lambda run_id, path: text)
    val, test = loaded.predictions("val"), loaded.predictions("test")
    assert val["image_id"].tolist() == ["00000013", "1e5"]
    assert val["patient_id"][0] == "NA"
    assert pd.isna(val["patient_id"][1])
    assert (test["image_id"][0], test["patient_id"][0]) == ("null", "007")
    assert val["score"].tolist() == [0.5, 0.25]


def test_a_gallery_of_the_test_split_counts_as_an_evaluation_of_it(there):
    loaded = pneumo.load(there)
    before = query.test_evaluations_of(query.find_run(there))
    assert loaded.gallery("val")
    assert query.test_evaluations_of(query.find_run(there)) == before
    assert loaded.gallery("test")
    assert query.test_evaluations_of(query.find_run(there)) == before + 1


def test_training_is_that_of_the_command_and_its_run_is_listed(workdir, composed):
    trained = pneumo.train(TINY)
    callback = Named()
    run(composed(*TINY), workdir / "out", callback)
    same = query.metrics_of(callback.run_id)
    for name in ("last/train_loss", "last/val_loss", "test/auroc"):
        assert trained.metrics[name] == same[name]
    tags = query.find_run(trained.run_id).data.tags
    assert tags["overrides"] == " ".join(TINY)
    assert tags["model"] == "tiny"
    assert pneumo.load("latest").run_id == callback.run_id
    table = pneumo.runs()
    assert list(table.columns) == list(COLUMNS)
    assert list(table["run_id"]) == [callback.run_id, trained.run_id]
    assert pneumo.runs(trained.name)["val_auroc"].tolist() == [trained.metrics["best/val_auroc"]]


def test_each_folder_has_its_own_runs(there, tmp_path, monkeypatch):
    assert there in set(pneumo.runs()["run_id"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"There is no mlflow\.db in"):
        pneumo.load(there)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pneumo.train(["loss=bcee"]), "loss=bcee is not a choice"),
        (lambda: pneumo.train(["fit.epochs=0"]), "fit.epochs must be at least 1, got 0"),
        (lambda: pneumo.train("loss=bce"), "train takes a list of overrides, got the text 'loss=bce'"),
        (lambda: pneumo.load("best"), "There is no mlflow.db in"),
        (lambda: pneumo.runs(), "There is no mlflow.db in"),
        (lambda: pneumo.compare("a", "b"), "There is no mlflow.db in"),
    ],
)
def test_what_is_wrong_is_an_input_error(workdir, call, said):
    with pytest.raises(InputError) as error:
        call()
    assert said in str(error.value)


def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", 4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = first.source.replace("n_images=900", "n_images=200").replace("epochs=6", "epochs=1")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
