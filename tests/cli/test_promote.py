"""A run's model in MLflow's registry, whole."""

import base64
import os
import subprocess
import sys

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from logged_runs import logged
from test_predict import png, table

from pneumo.cli import app
from pneumo.components.augment import Augment
from pneumo.components.losses import CrossEntropy, Focal, WeightedBce
from pneumo.components.models import Tiny
from pneumo.data.normalise import FIXED
from pneumo.errors import InputError
from pneumo.inference import onnx_export, registry
from pneumo.inference.model import load_model
from pneumo.inference.onnx_export import Network, export, noise
from pneumo.inference.registry import need_names
from pneumo.runs import tracking

ALONE = """
import sys, importlib.abc
class No(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "hydra", "filelock", "scipy"):
            raise ImportError(f"{name} is hidden")
        if name == "pneumo" and not any("/code" in entry for entry in sys.path):
            raise ImportError("pneumo is hidden")
sys.meta_path[:] = [No(), *(f for f in sys.meta_path if "editable" not in repr(f))]
sys.path[:] = [entry for entry in sys.path if entry != REPOSITORY]
import mlflow, pandas as pd
mlflow.set_tracking_uri(STORE)
model = mlflow.pyfunc.load_model("models:/pneumo@champion")
import pneumo
assert "/code/pneumo" in pneumo.__file__, pneumo.__file__
print(model.predict(pd.DataFrame({"image": [IMAGE]}))["score"][0])
"""


@pytest.fixture
def promoted(there):
    if not tracking_has_champion():
        app.invoke(["promote", there])
    return there


def tracking_has_champion():
    tracking.connect()
    try:
        return mlflow.MlflowClient().get_model_version_by_alias("pneumo", "champion")
    except mlflow.exceptions.MlflowException:
        return None


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def test_the_registered_model_scores_as_predict_does_in_a_process_without_repository_or_torch(
    promoted, tmp_path
):
    film = png(tmp_path / "film.png")
    app.invoke(["predict", promoted, str(film), "--out", str(tmp_path / "out.csv")])
    names = {"REPOSITORY": os.environ.get("PYTHONPATH", "") or str(app.__file__).rsplit("/pneumo", 1)[0]}
    names |= {"STORE": mlflow.get_tracking_uri(), "IMAGE": encoded(film)}
    program = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + ALONE
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    fp32 = 1e-5 if load_model(promoted).accelerator.dtype == torch.float32 else 0.02
    assert float(done.stdout) == pytest.approx(float(table(tmp_path / "out.csv")[0]["score"]), abs=fp32)


def test_a_version_says_its_run_signature_example_and_packages(promoted):
    version = tracking_has_champion()
    assert version.run_id == promoted
    model = mlflow.models.get_model_info("models:/pneumo@champion")
    assert [(column.name, column.required) for column in model.signature.inputs] == [
        ("image", True),
        ("name", False),
    ]
    assert model.signature.outputs.input_names() == ["score", "probability", "decision", "flag"]
    assert list(model._model_uri and mlflow.pyfunc.load_model(model.model_uri).input_example["name"]) == [
        "example.png"
    ]


def test_promoting_again_makes_a_new_version_and_moves_the_alias(promoted):
    before = int(tracking_has_champion().version)
    app.invoke(["promote", promoted])
    assert int(tracking_has_champion().version) == before + 1
    assert mlflow.get_run(promoted).info.status == "FINISHED"


def test_it_is_said_which_run_loses_the_alias(promoted, capsys):
    other = logged("calm-heron-412", 0.95)
    client = mlflow.MlflowClient()
    client.create_registered_model("replaced")
    made = client.create_model_version("replaced", mlflow.get_run(other).info.artifact_uri, other)
    client.set_registered_model_alias("replaced", "champion", made.version)
    app.invoke(["promote", promoted, "--name", "replaced"])
    mlflow.delete_run(other)  # the store is shared
    assert "replaces  version 1, of calm-heron-412, val AUROC .950; this is " in capsys.readouterr().out


def test_it_is_said_as_well_where_the_run_that_loses_the_alias_is_gone(promoted, capsys, monkeypatch):
    monkeypatch.setattr(registry, "run_under", lambda name, alias: (7, "0" * 32))
    app.invoke(["promote", promoted, "--name", "of-a-purged-run"])
    gone = f"replaces  version 7, of run {'0' * 32}, which MLflow has no more; this is "
    assert gone in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "alias"), [("a/b", "x"), ("", "x"), ("pneumo", "v1"), ("pneumo", "latest"), ("pneumo", "a b")]
)
def test_names_that_mlflow_does_not_take_are_refused(name, alias):
    with pytest.raises(InputError, match=r"^(name|alias) must"):
        need_names(name, alias)


class OfLoss:
    """As much of a LoadedModel as is exported."""

    def __init__(self, loss, tta):
        torch.manual_seed(0)
        self.model, self.loss, self.side_px = Tiny(width=4)(loss.n_outputs), loss, 32
        self.normalise = FIXED["half"]
        self.experiment = type("", (), {"tta": tta, "augment": Augment(crop=0.8)})


@pytest.mark.parametrize(
    ("loss", "tta"),
    [
        (WeightedBce(positive_weight=3.0), "hflip_scales"),
        (CrossEntropy(), "hflip"),
        (Focal(gamma=2.0, alpha=0.25), "none"),
    ],
)
def test_onnx_says_what_torch_says_for_losses_views_and_any_number_of_images(loss, tta, tmp_path):
    given = OfLoss(loss, tta)
    assert export(given, tmp_path / "x.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 3, 50):
        images = noise(count, 32)
        (scores,) = session.run(["score"], {"images": images.numpy()})
        assert np.abs(scores - Network(given).eval()(images).numpy()).max() < 1e-4
    assert len(set(scores.round(9))) > 5


def test_what_cannot_be_exported_is_one_line(tmp_path, monkeypatch):
    given = OfLoss(Focal(gamma=2.0, alpha=0.25), "none")

    def failing(*given, **options):
        raise RuntimeError("no operator for aten::new\nand a long report")

    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", failing)
        with pytest.raises(InputError) as error:
            export(given, tmp_path / "x.onnx")
    name = type(given.model).__name__
    assert str(error.value) == f"{name} cannot be exported to ONNX: RuntimeError: no operator for aten::new"
    monkeypatch.setattr(onnx_export, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match=r"^ONNX's scores differ from torch's by .*: nothing is registered$"):
        export(given, tmp_path / "x.onnx")


def test_a_bad_image_is_refused_by_name_and_all_of_its_request(promoted):
    model = mlflow.pyfunc.load_model("models:/pneumo@champion")
    cases = [("%%%", "a.png is not base64"), (None, "a.png is not base64"), ("eA==", "a.png is not a")]
    for image, said in cases:
        with pytest.raises(mlflow.exceptions.MlflowException, match=said) as error:
            model.predict(pd.DataFrame({"image": [image], "name": ["a.png"]}))
        assert error.value.get_http_status_code() == 400
