"""The package as it is installed: from a wheel, in an empty folder, with a package of somebody else's
components."""

import os
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

SMALL = ["data.n_images=120", "data.image_side_px=64", "model.width=4", "fit.epochs=1", "fit.pictures=false"]
PLUGIN = ROOT / "tests" / "example_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an installation without a checkout near it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pneumo", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    install(source, target)
    return target


def install(source, target):
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)


@pytest.fixture
def pneumo(installed, workdir):
    """Words of the command `pneumo` -> what it printed; it must end well."""

    def run(*words, code=0, packages=()):
        done = subprocess.run(
            [sys.executable, str(installed / "bin" / "pneumo"), *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (installed, *packages)))},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_an_installed_package_trains_sweeps_and_evaluates_in_an_empty_folder(pneumo, workdir):
    pneumo("train", "loss=bce", "schedule=plateau", *SMALL)
    pneumo("sweep", "-m", "n_trials=1", *SMALL)
    assert "AUROC" in pneumo("evaluate", "latest")
    mlflow.set_tracking_uri(f"sqlite:///{workdir}/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert {run.data.tags.get("schedule") for run in runs} == {"plateau", "onecycle", None}


def test_a_conf_folder_in_the_working_directory_wins_over_the_packaged_one(pneumo, workdir):
    (workdir / "conf" / "loss").mkdir(parents=True)
    (workdir / "conf" / "loss" / "bce.yaml").write_text(
        "_target_: pneumo.components.losses.Focal\ngamma: 5.0\n"
    )
    assert "gamma: 5.0" in pneumo("train", "--cfg", "job")


def test_a_config_dir_wins_over_the_working_directory_and_adds_choices(pneumo, workdir):
    for folder, gamma in (("conf", 5.0), ("mine", 7.0)):
        (workdir / folder / "loss").mkdir(parents=True)
        target = f"_target_: pneumo.components.losses.Focal\ngamma: {gamma}\n"
        (workdir / folder / "loss" / "bce.yaml").write_text(target)
    (workdir / "mine" / "experiment").mkdir()
    (workdir / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 11\n")
    composed = pneumo("train", "--config-dir", "mine", "experiment=own", "--cfg", "job")
    assert "gamma: 7.0" in composed
    assert "seed: 11" in composed


def test_another_package_adds_a_loss_a_model_a_data_source_and_an_experiment(
    pneumo, workdir, tmp_path_factory
):
    plugin = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PLUGIN, tmp_path_factory.mktemp("plugin source") / "plugin")
    install(source, plugin)
    random = np.random.default_rng(0)
    for folder, brightness in (("normal", 60), ("pneumothorax", 160)):
        (workdir / "images" / folder).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 60, (64, 64), np.uint8) + np.uint8(brightness)
            Image.fromarray(pixels).save(workdir / "images" / folder / f"{folder}{number // 2}_{number}.png")
    root = f"data.root={workdir / 'images'}"
    printed = pneumo("train", "experiment=hinge_plain", root, "fit.pictures=false", packages=[plugin])
    assert "two_folders: 60 radiographs of 30 patients" in printed
    assert "hinge" in printed
    assert "there is no run" not in pneumo("evaluate", "latest", packages=[plugin])


def test_the_components_of_a_package_that_is_not_installed_are_refused(pneumo):
    assert "mypkg.losses.Hinge" in pneumo("train", "loss._target_=mypkg.losses.Hinge", *SMALL, code=1)
