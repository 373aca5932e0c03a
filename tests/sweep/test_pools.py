"""What a pool of workers is given, and the script of a SLURM array."""

import os
import shlex
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir

from pneumo.errors import InputError
from pneumo.runs import origin, search_path
from pneumo.sweep.pools import ray, travel
from pneumo.sweep.pools.base import StudyNeeds, Work
from pneumo.sweep.pools.local import LocalPool
from pneumo.sweep.pools.slurm import SlurmPool
from pneumo.sweep.settings import load_settings

SERVERS = {
    "storage": "postgresql://head/study",
    "tracking": "http://head:5000",
    "data_root": None,
    "device": "auto",
}
SLURM = {
    "processes": 1,
    "gpus": 1,
    "cpus": 4,
    "memory_gb": 16,
    "minutes": 240,
    "at_once": 8,
    "partition": None,
    "setup": ["module load cuda"],
}


def pool_of(*overrides):
    with initialize_config_dir(str(ROOT / "conf")):
        composed = compose("sweep", ["study=s", *overrides], return_hydra_config=True)
    return load_settings(composed, composed.hydra.sweeper).make_pool()


def test_each_choice_of_pool_is_one_group_and_the_default_is_this_machine():
    assert isinstance(pool_of(), LocalPool)
    assert pool_of("pool=ray", "pool.gpus=.5").gpus == 0.5
    assert pool_of("pool=slurm", "pool.partition=gpu").partition == "gpu"


@pytest.mark.parametrize(
    "wrong",
    [
        ["pool=ray", "pool.cpus=0"],
        ["pool=ray", "pool.gpus=-1"],
        ["pool=slurm", "pool.gpus=.5"],
        ["pool=local", "pool.processes=0"],
        ["pool=slurm", "pool.processes=2"],  # on one GPU
        ["pool=ray", "pool.processes=2", "pool.gpus=.5"],
    ],
)
def test_a_wrong_request_is_refused_by_its_name(wrong):
    with pytest.raises(InputError, match=wrong[1].split("=")[0]):
        pool_of(*wrong)


def test_a_worker_with_fewer_gpus_than_processes_is_refused_unless_it_trains_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    needs, pool = {**SERVERS, "launcher": "basic"}, LocalPool(processes=2)
    refused = pytest.raises(InputError, match=r"pool\.processes=2 needs as many GPUs for a worker, got 1$")
    with refused, pool.ready(StudyNeeds(**needs)):
        pass
    with pool.ready(StudyNeeds(**{**needs, "device": "cpu"})):
        pass


@pytest.mark.parametrize("asked", [(100_000, 1), (1, 100_000), (300, 300)])
def test_more_processes_than_the_memory_holds_are_refused(asked):
    workers, processes = asked
    said = (
        rf"^workers={workers} with pool\.processes={processes} does not fit .* GiB, and [\d,]+ processes need"
    )
    with pytest.raises(InputError, match=said):
        LocalPool(processes=processes).check_workers(workers)


@pytest.mark.parametrize(
    ("launcher", "root", "sees"),
    [("submitit_slurm", "/nowhere", False), ("submitit_slurm", None, True), ("basic", "/nowhere", True)],
)
def test_data_that_only_the_jobs_of_a_launcher_reach_are_not_seen_here(launcher, root, sees):
    needs = StudyNeeds(**{**SERVERS, "launcher": launcher, "data_root": root})
    assert needs.sees_data == sees


def work(**given):
    nothing = {name: lambda: None for name in ("train", "show", "why_stopped", "say")}
    words = ["-m", "pool=slurm", "pool.gpus=1", "study=chest", "data.root=/data/the scans"]
    settled = {"study": "chest", "n_workers": 16, "words": words, "began": 0.0, "is_over": lambda: False}
    return Work(**{**settled, **nothing, **given})


def test_the_slurm_script_is_valid_shell_that_ends_in_the_command_of_one_worker(workdir):
    said = []
    assert SlurmPool(**SLURM).run(work(say=said.append)) is None
    (command,) = [line for line in said if "sbatch" in line]
    path = workdir / shlex.split(command)[2]
    lines = path.read_text().splitlines()
    assert lines[:2] == ["#!/bin/bash", "#SBATCH --job-name=pneumo"]
    assert {"#SBATCH --array=0-15%8", "#SBATCH --time=240", "#SBATCH --gpus=1", "#SBATCH --mem=16G"} <= {
        *lines
    }
    assert not any("partition" in line for line in lines), "null is the cluster's default"
    assert lines.index("module load cuda") < lines.index("export OMP_NUM_THREADS=4")
    command = [
        "-m",
        "pneumo.cli.sweep",
        "-m",
        "study=chest",
        "data.root=/data/the scans",
        "pool=local",
        "pool.processes=1",
        "workers=1",
    ]
    assert shlex.split(lines[-1]) == ["exec", sys.executable, *command]
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ({**SERVERS, "storage": "sqlite:////home/me/study.db"}, "PNEUMO_STORAGE=sqlite:////home/me/study.db"),
        ({**SERVERS, "tracking": "./mlruns"}, "MLFLOW_TRACKING_URI=./mlruns"),
        ({**SERVERS, "launcher": "slurm"}, "leave out hydra/launcher=slurm"),
    ],
)
def test_slurm_refuses_files_that_one_machine_has_and_a_launcher(needs, why):
    with (
        pytest.raises(InputError) as refused,
        SlurmPool(**SLURM).ready(StudyNeeds(**{"launcher": "basic", **needs})),
    ):
        pass
    assert why in str(refused.value)


def test_code_configuration_and_what_git_says_travel_in_one_folder(workdir, monkeypatch):
    (workdir / "conf" / "loss").mkdir(parents=True)
    (workdir / "conf" / "loss" / "mine.yaml").write_text("a: of the working directory\n")
    (workdir / "given" / "loss").mkdir(parents=True)
    (workdir / "given" / "loss" / "mine.yaml").write_text("a: of --config-dir\n")
    (workdir / "mymodule.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(workdir)
    monkeypatch.setenv("PNEUMO_TRUST", "mymodule.Mine, torch.nn.*")
    monkeypatch.setattr(sys, "argv", ["sweep.py", "-m", "--config-dir", "given"])
    packed = workdir / "packed"
    packed.mkdir()
    travel.pack(packed)
    assert {path.name for path in packed.iterdir()} == {"pneumo", "conf", "mymodule.py"}
    assert "--config-dir" in (packed / "conf" / "loss" / "mine.yaml").read_text()
    monkeypatch.chdir(packed)
    told = "from pneumo.runs import origin as o; print(o.OWN, o.git_tags()['git_commit'], sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": str(packed)}
    printed = subprocess.run(
        [sys.executable, "-c", told], env=environment, capture_output=True, text=True
    ).stdout
    assert printed.splitlines() == [str(packed / "pneumo" / "conf"), origin.git_tags()["git_commit"]]
    assert (packed / "pneumo" / "conf" / "sweep.yaml").read_text() == (
        search_path.OWN / "sweep.yaml"
    ).read_text()


def test_the_folder_of_configuration_is_named_once():
    words = ["-m", "--config-dir", "given", "study=s"]
    assert ray.without_config_dir(words) == ["-m", "study=s"]


@pytest.mark.parametrize(
    ("request_of_each", "n"),
    [({"CPU": 1, "GPU": 0.0}, 16), ({"CPU": 1, "GPU": 0.5}, 4), ({"CPU": 4, "GPU": 3}, 0)],
)
def test_a_node_has_room_for_what_its_scarcest_resource_allows(request_of_each, n):
    assert ray.fitting({"CPU": 16.0, "GPU": 2.0, "memory": 0.0}, request_of_each) == n


def test_nodes_that_leave_and_join_are_said():
    def node(name):
        return {"NodeID": name, "NodeManagerHostname": name, "NodeManagerAddress": f"ip of {name}"}

    assert list(ray.changes([node("a"), node("b")], [node("b"), node("c")])) == [
        "node a (ip of a) has left the cluster; its workers start again where there is room",
        "node c (ip of c) has joined the cluster",
    ]
