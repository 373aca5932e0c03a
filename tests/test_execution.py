"""Nothing that is read is executed, and nothing listens but on this machine."""

import ast
import pickle
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT
from mlflow.models import Model

from pneumo.cli import app
from pneumo.errors import InputError
from pneumo.runs import tracking

SOURCES = sorted((ROOT / "pneumo").rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EXECUTES = {"eval", "exec", "compile"}


def calls(path):
    """(dotted name, keyword arguments as they are written) of each call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def imported(path):
    """The top packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def unsafe(path):
    """What of a file could execute what it reads."""
    yield from UNPICKLERS & set(imported(path))
    for name, given in calls(path):
        last = name.rpartition(".")[2]
        if name == "torch.load" and given.get("weights_only") != "True":
            yield name
        if name in ("np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle") and (
            "pickle" in name or given.get("allow_pickle", "False") != "False"
        ):
            yield name
        if name.startswith("mlflow.") and last == "load_model":
            yield name
        if name in EXECUTES or (last in ("load", "load_all") and name.startswith("yaml.")):
            yield name


def test_no_file_of_the_package_unpickles_or_executes_what_it_reads():
    assert len(SOURCES) > 200
    assert {str(path): found for path in SOURCES if (found := sorted(unsafe(path)))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import mlflow\nmlflow.pyfunc.load_model('models:/pneumo@champion')",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "eval(text)",
    ],
)
def test_the_search_above_finds_what_it_looks_for(tmp_path, text):
    path = tmp_path / "file.py"
    path.write_text(text)
    assert list(unsafe(path))


def test_no_file_of_the_package_listens_on_a_port():
    listening = ("bind", "listen", "serve_forever", "create_server", "start_server")
    for path in SOURCES:
        assert not [name for name, _ in calls(path) if name.rpartition(".")[2] in listening], path
        assert "0.0.0.0" not in path.read_text(), path


class Hostile:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("verb", ["predict", "evaluate", "promote"])
def test_a_model_of_the_registry_that_would_execute_code_is_refused_without_being_loaded(
    there, tmp_path, verb, capsys
):
    touched = tmp_path / "executed"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Hostile(touched)))
    flavour = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}
    Model(flavors={"python_function": {**flavour, "cloudpickle_version": "3"}}).save(folder / "MLmodel")
    client = mlflow.MlflowClient()
    name = f"hostile-{verb}"
    client.create_registered_model(name)
    client.create_model_version(name, folder.as_uri(), run_id=there)
    (tmp_path / "film.png").write_bytes(b"")
    files = [str(tmp_path / "film.png")] if verb == "predict" else []
    for given in (f"models:/{name}/1", str(folder / "python_model.pkl")):
        with pytest.raises(InputError) as refused:
            app.invoke([verb, given, *files])
        assert "\n" not in str(refused.value)
    assert not touched.exists()
    pickle.loads((folder / "python_model.pkl").read_bytes())
    assert touched.exists(), "it would have been executed"


@pytest.mark.parametrize("name", ["model.pretrained", "resume"])
def test_a_hostile_file_of_weights_is_refused_without_being_executed(composed, workdir, name):
    from pneumo.runs.run import run

    (workdir / "hostile.pt").write_bytes(pickle.dumps(Hostile(workdir / "executed")))
    with pytest.raises(InputError, match="is not a file of weights"):
        run(composed("data.n_images=60", f"{name}={workdir / 'hostile.pt'}"), workdir / "out")
    assert not (workdir / "executed").exists()
    assert tracking.store_name() == "mlflow.db"
