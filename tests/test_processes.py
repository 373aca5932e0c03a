"""Several processes on one training, started by torchrun as a person would."""

import subprocess
import sys

import mlflow
import pytest
import torch
from conftest import ROOT, SMALL

RUN = [str(ROOT / "train.py"), *SMALL, "model.width=4", "fit.precision=fp32", "fit.epochs=2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
FAILING = """
import os
from dataclasses import dataclass
from pneumo.losses import Bce

@dataclass(frozen=True, kw_only=True)
class Failing(Bce):
    def __call__(self, logits, labels):
        if os.environ.get("RANK") == "1" and logits.requires_grad:
            raise ValueError("only the second process says this")
        return super().__call__(logits, labels)
"""


@pytest.fixture
def stores(tmp_path_factory, monkeypatch):
    """One pixel store for all runs of this file."""
    monkeypatch.setenv("PNEUMO_STORES", str(tmp_path_factory.getbasetemp() / "stores"))


def typed(processes, *overrides, folder):
    folder.mkdir(exist_ok=True)
    command = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes > 1 else [sys.executable]
    return subprocess.run(
        [*command, *RUN, *overrides], capture_output=True, text=True, timeout=200, cwd=folder
    )


def parameters(folder):
    (path,) = folder.glob("outputs/*/*/checkpoints/last.pt")
    state = torch.load(path, weights_only=True)
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # the first process' own
    return state, {name: value for name, value in state["model"].items() if not name.endswith(statistics)}


@pytest.mark.parametrize("augment", ["safe", "report augment.relabel=true"])
def test_two_processes_equal_accumulation_two(workdir, stores, augment):
    options = ["optimizer=sgd", f"augment={augment.split()[0]}", *augment.split()[1:], "fit.batch_size=8"]
    two = typed(2, *options, folder=workdir / "two")
    one = typed(1, *options, "fit.accumulation_steps=2", folder=workdir / "one")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert "effective batch 16 = 8 x 1 x 2 processes" in two.stdout
    (state, alone), (shared_state, shared) = parameters(workdir / "one"), parameters(workdir / "two")
    assert max(float((alone[name] - shared[name]).abs().max()) for name in alone) < 1e-6
    for figures, others in zip(state["history"], shared_state["history"], strict=True):
        assert figures["train/loss"] == pytest.approx(others["train/loss"], abs=1e-6)

    mlflow.set_tracking_uri(f"sqlite:///{workdir}/two/mlflow.db")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.metrics["processes"] == 2
    assert len(list((workdir / "two").glob("outputs/*/*"))) == 1
    predicted = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/predictions.csv").splitlines()[1:]
    assert len({line.split(",")[0] for line in predicted}) == len(predicted) == 24 + 24


def test_a_process_that_fails_ends_all_with_its_own_error(workdir, stores, monkeypatch):
    (workdir / "mine.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(workdir), prepend=":")
    monkeypatch.setenv("PNEUMO_TRUST", "mine.*")
    done = typed(2, "loss._target_=mine.Failing", folder=workdir / "two")
    assert done.returncode != 0
    assert "only the second process says this" in done.stderr
    assert "Another process of this training has ended" in done.stderr
    mlflow.set_tracking_uri(f"sqlite:///{workdir}/two/mlflow.db")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FAILED"


def test_what_is_wrong_is_said_once(workdir, stores):
    done = typed(2, "data.image_side_px=32", folder=workdir / "two")
    assert done.returncode != 0
    assert done.stderr.count("the phantom is drawn from 64 to 1024") == 1
