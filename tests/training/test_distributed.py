"""Several processes on one training, started by torchrun as a person would."""

import io
import json
import os
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
import torch
from conftest import ROOT, SMALL
from sklearn.metrics import log_loss

RUN = [str(ROOT / "train.py"), *SMALL, "model.width=4", "fit.precision=fp32", "fit.epochs=2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
FAILING = """
import os
from dataclasses import dataclass
from pneumo.components.losses import Bce

@dataclass(frozen=True, kw_only=True)
class Failing(Bce):
    def __call__(self, logits, labels):
        if os.environ.get("RANK") == "1" and logits.requires_grad:
            raise ValueError("only the second process says this")
        return super().__call__(logits, labels)
"""
LATE = """
import os, runpy, sys, time
if os.environ["RANK"] == os.environ["LATE"]:
    time.sleep(5)
sys.argv[0] = sys.argv.pop(1)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STATES = """
import hashlib, json, os, sys
from copy import deepcopy
from pathlib import Path
import torch
from torch.utils._pytree import tree_leaves
from conftest import fit_on_squares
from pneumo.components.augment import Augment
from pneumo.components.losses import Bce
from pneumo.components.optimizers import Sgd
from pneumo.training.distributed import process_group

class SecondIsSmall(Bce):
    def __call__(self, logits, labels):
        if os.environ["RANK"] == "1" and logits.requires_grad and len(logits) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().__call__(logits, labels)

def digest(train_state, but_clocks=False):
    state = deepcopy(train_state.state_dict())
    for metrics in state["history"] if but_clocks else []:
        del metrics["epoch_seconds"], metrics["images_per_second"]
    leaves = [x.tolist() if isinstance(x, torch.Tensor) else x for x in tree_leaves(state)]
    return hashlib.sha256(repr(leaves).encode()).hexdigest()

options = json.loads(sys.argv[1])
loss = SecondIsSmall() if options.pop("second_is_small") else Bce()
with process_group(torch.device("cpu")) as processes:
    def begun():
        own = {"optimizer": Sgd(lr=0.1), "augment": Augment(rotation_degrees=10, flip=0.5), "loss": loss}
        return fit_on_squares(processes=processes, **own, **options)

    trainer, train_state = begun()
    digests, states = [], []
    def keep(train_state):
        digests.append(digest(train_state))
        states.append(deepcopy(train_state.state_dict()))
    for report in trainer.epochs(train_state, keep=keep):
        digests.append(digest(train_state))
    resumed = []
    for state in processes.broadcast_object(states):
        trainer, again = begun()
        again.load_state_dict(state)
        for report in trainer.epochs(again):
            pass
        resumed.append(digest(again, but_clocks=True))
    metrics = {"micro_batch": train_state.micro_batch, "scale": train_state.scaler.get_scale()}
    told = {"states": digests, "whole": digest(train_state, but_clocks=True), "resumed": resumed, **metrics}
    Path(f"{processes.rank}.json").write_text(json.dumps(told))
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
    for metrics, others in zip(state["history"], shared_state["history"], strict=True):
        assert metrics["train/loss"] == pytest.approx(others["train/loss"], abs=1e-6)

    mlflow.set_tracking_uri(f"sqlite:///{workdir}/two/mlflow.db")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.params["processes"] == "2"
    assert len(list((workdir / "two").glob("outputs/*/*"))) == 1
    predicted = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/results/predictions.csv").splitlines()[
        1:
    ]
    assert len({line.split(",")[0] for line in predicted}) == len(predicted) == 24 + 24


def states_of_both(folder, **options):
    """What each of two processes tells of its state: at every checkpoint within an epoch, after every epoch,
    and at the end of a training resumed from each of those within."""
    (folder / "states.py").write_text(STATES)
    options = {"second_is_small": False, "n_train": 44, **options}
    done = subprocess.run(
        [*TORCHRUN, "--nproc-per-node=2", "states.py", json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture
def tests_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=":")


def test_all_processes_hold_the_same_state_and_resuming_within_an_epoch_changes_nothing(
    workdir, tests_importable
):
    first, second = states_of_both(workdir, settings={"ema_decay": 0.9, "checkpoint_minutes": 1e-9})
    assert len(first["states"]) == 2 * 3  # three windows an epoch; after the last the epoch is done
    assert first == second
    assert first["resumed"] == [first["whole"]] * 4


def test_fp16_learns_where_a_process_has_no_batch_in_its_first_window(workdir, tests_importable):
    first, second = states_of_both(workdir, n_train=8, settings={"precision": "fp16", "ema_decay": 0.9})
    assert first == second
    assert 0 < first["scale"] <= 2**16, "what overflows for one does for both"


def test_a_batch_that_one_process_has_no_memory_for_is_smaller_for_all(workdir, tests_importable):
    first, second = states_of_both(workdir, second_is_small=True, settings={"checkpoint_minutes": 1e-9})
    assert first == second
    assert first["micro_batch"] == 2


def test_the_validation_of_a_moving_average_is_of_the_model_that_is_kept(workdir, stores):
    done = typed(2, "fit.ema_decay=.9", "fit.epochs=1", "fit.batch_size=8", folder=workdir / "two")
    assert done.returncode == 0, done.stderr
    mlflow.set_tracking_uri(f"sqlite:///{workdir}/two/mlflow.db")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/results/predictions.csv")
    kept = pd.read_csv(io.StringIO(text)).query("split == 'val'")
    assert run.data.metrics["val/loss"] == pytest.approx(log_loss(kept["label"], kept["score"]), abs=1e-5)


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


@pytest.mark.parametrize(
    ("override", "said"),
    [("data.image_side_px=32", "data.image_side_px must be at least 64"), ("loss=bcd", "loss=bce")],
)
def test_what_is_wrong_is_said_once(workdir, stores, override, said):
    done = typed(2, override, folder=workdir / "two")
    assert done.returncode != 0
    assert done.stderr.count(said) == 1


@pytest.mark.parametrize("late", ["0", "1"])
def test_what_is_wrong_is_said_by_the_first_however_late_it_is(workdir, stores, monkeypatch, late):
    monkeypatch.setenv("LATE", late)
    (workdir / "late.py").write_text(LATE)
    words = [*TORCHRUN, "--nproc-per-node=2", str(workdir / "late.py"), *RUN, "data.image_side_px=32"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=workdir)
    assert done.returncode != 0
    assert done.stderr.count("data.image_side_px must be at least 64") == 1


def test_a_process_that_alone_finds_something_wrong_says_it(tmp_path):
    code = """
import pneumo.cli.torchrun as torchrun
torchrun.MINUTE = 0.1
torchrun.exit_with("no such folder on this host")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RANK": "1"})
    assert (done.returncode, done.stderr) == (1, "no such folder on this host\n")
