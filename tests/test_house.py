"""The arrows between rooms go one way."""

import ast

import pytest
from conftest import ROOT

LAYERS = [  # a room may import rooms above its own line, and on its own line where that is said
    {"errors", "metrics", "console", "unsent", "settings", "address"},
    {"weights", "pages", "lesions"},
    {"data"},
    {"runs"},
    {"augment", "models", "losses", "optimizers", "schedules", "machine", "figures"},
    {"infer", "average", "processes"},
    {"training"},
    {"tally"},
    {"fit"},
    {"features"},
    {"checkpoint", "experiment", "watch"},
    {"tracking", "archive", "verdict", "config"},
    {"resume", "describe", "pictures", "profile", "warm_start"},
    {"run"},
    {"revisit", "trained"},
    {"evidence"},
    {"reproduce", "sweep", "datacheck", "serving", "report"},
    {"cli"},
]
COMPONENTS = LAYERS[4]
OUTSIDE = {  # who alone may know a package
    "mlflow": {
        "tracking",
        "archive",
        "serving.registry",
        "serving.served",
    },  # the last is a model of MLflow's
    "hydra": {"config", *(f"sweep.{room}" for room in ("plugin", "controller", "job", "settings", "space"))},
    "omegaconf": {"config", *(f"sweep.{room}" for room in ("plugin", "controller", "job", "settings"))},
    "matplotlib": {
        "figures",
        "pictures",
        "tracking",
        "sweep.plots",
        "pages",
        "evidence.evaluated",
        "evidence.evaluate",
        "evidence.gallery",
    },
    "rich": {"console"},
    "PIL": {"data.images"},
    "pydicom": {"data.dicom"},
    "optuna": {f"sweep.{path.stem}" for path in (ROOT / "pneumo" / "sweep").glob("*.py")} - {"sweep.plugin"},
    "sqlalchemy": {"address", "sweep.ledger"},
}


def rooms():
    for path in sorted((ROOT / "pneumo").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT / "pneumo").with_suffix("").parts), ast.parse(path.read_text())


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pneumo":
            yield from (f"pneumo.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def layer(room):
    (found,) = [i for i, names in enumerate(LAYERS) if room in names]
    return found


@pytest.mark.parametrize(
    ("room", "tree"), [pytest.param(room, tree, id=room) for room, tree in rooms() if room != "__init__"]
)
def test_no_room_imports_one_further_down(room, tree):
    own = room.split(".")[0]
    for name in imports(tree):
        if name.startswith("pneumo."):
            other = name.split(".")[1]
            assert (
                other == own
                or layer(other) < layer(own)
                or (layer(other) == layer(own) and own not in COMPONENTS)
            ), f"{room} imports {name}"


@pytest.mark.parametrize("package", OUTSIDE)
def test_a_package_is_known_where_it_must_be_and_nowhere_else(package):
    knowing = {room for room, tree in rooms() if package in {name.split(".")[0] for name in imports(tree)}}
    assert knowing <= OUTSIDE[package]
