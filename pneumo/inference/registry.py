"""Registers a model in MLflow's model registry."""

import io
import logging
import re
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from pneumo.errors import InputError

PACKAGE = Path(__file__).parents[1]
NEEDED = ("mlflow", "numpy", "pandas", "pillow", "pydicom", "python-gdcm", "onnxruntime")
SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "image"), ColSpec("string", "name", required=False)]),
    Schema(
        [
            ColSpec("double", "score"),
            ColSpec("double", "probability"),
            ColSpec("string", "decision"),
            ColSpec("string", "flag"),
        ]
    ),
)


ORIGIN = ("data", "data_identity", "split_identity", "split_hash", "leak_risk", "collapsed")


def origin_of(run_id: str) -> dict[str, str]:
    """The tags of a model version that describe its run: data, split, whether it leaks or has collapsed."""
    tags = mlflow.get_run(run_id).data.tags
    return {name: tags[name] for name in ORIGIN if name in tags}


def need_names(name: str, alias: str) -> None:
    """InputError: MLflow would not take one of them."""
    if not name or set(name) & set("/:%\"'@") or not name.isprintable():
        raise InputError(f"name must have none of / : % @ and quotes, got {name!r}")
    if not re.fullmatch(r"[\w-]+", alias, re.ASCII) or re.fullmatch(r"(?i)v\d+|latest", alias):
        raise InputError(
            f"alias must be letters, digits, _ and -, and neither latest nor v and a number, got {alias!r}"
        )


def run_under(name: str, alias: str) -> tuple[int, str] | None:
    """The version of a model that has this alias, and the id of its run; None if none has."""
    try:
        found = mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException:
        return None
    return int(found.version), str(found.run_id)


def register(run_id: str, name: str, alias: str, network: Path, settings: Path, image: str) -> int:
    """A new version of the model `name`, from a run, under this alias: its files and our code. `image`: an
    example in base64. Returns the version's number; MlflowException: the registry cannot be reached."""
    mlflow.set_experiment(experiment_id=mlflow.get_run(run_id).info.experiment_id)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logged = Model.log(
        None,
        name="pneumo",
        flavor=mlflow.pyfunc,
        run_id=run_id,
        python_model=str(PACKAGE / "inference" / "served.py"),
        code_paths=[str(PACKAGE)],
        artifacts={"network": str(network), "settings": str(settings)},
        signature=SIGNATURE,
        input_example=pd.DataFrame({"image": [image], "name": ["example.png"]}),
        pip_requirements=[f"{package}=={version(package)}" for package in NEEDED],
    )
    with redirect_stderr(io.StringIO()):  # MLflow's own message, which ours replaces
        made = mlflow.register_model(logged.model_uri, name, tags=origin_of(run_id))
    mlflow.MlflowClient().set_registered_model_alias(name, alias, made.version)
    return int(made.version)
