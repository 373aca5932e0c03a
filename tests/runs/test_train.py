"""train.py as a person types it: real processes, real signals."""

import os
import signal
import subprocess
import sys

import mlflow
import pytest
import torch
from conftest import ROOT, SMALL

from pneumo.runs.listing import listing

TRAIN = [sys.executable, str(ROOT / "train.py")]
RUN = [*TRAIN, *SMALL, "model.width=4"]


def typed(*overrides, **options):
    return subprocess.run([*RUN, *overrides], capture_output=True, text=True, timeout=200, **options)


def killed_after_epoch(epoch, kill, *overrides):
    """Starts a run, sends it the signal after that epoch; returns what it said and how it ended."""
    process = subprocess.Popen(
        [*RUN, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if line.strip().startswith(f"{epoch}/"):
            process.send_signal(kill)
            break
    said.append(process.stdout.read())
    return "".join(said), process.wait(timeout=60)


def weights(workdir):
    (path,) = workdir.glob("outputs/*/*/checkpoints/last.pt")
    return torch.load(path, weights_only=True)["model"]


@pytest.fixture
def stores(tmp_path_factory, monkeypatch):
    """One pixel store for all runs of this file."""
    monkeypatch.setenv("PNEUMO_STORES", str(tmp_path_factory.getbasetemp() / "stores"))


def test_a_run_killed_with_sigkill_goes_on_bit_equal(workdir, stores, tmp_path_factory, monkeypatch):
    epochs = "fit.epochs=6"
    said, code = killed_after_epoch(2, signal.SIGKILL, epochs)
    assert code == -signal.SIGKILL, said
    again = typed(epochs, "resume=auto")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resumed   after epoch" in again.stdout
    mlflow.set_tracking_uri(f"sqlite:///{workdir}/mlflow.db")
    (logged,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert logged.info.status == "FINISHED"
    interrupted = weights(workdir)

    whole = tmp_path_factory.mktemp("whole")
    assert typed(epochs, cwd=whole).returncode == 0
    uninterrupted = weights(whole)
    assert all(torch.equal(interrupted[name], value) for name, value in uninterrupted.items())
    assert not list(workdir.rglob(".*.pt.*"))


def test_a_loss_that_is_not_finite_ends_the_run_with_a_message_alone(workdir, stores):
    done = typed("optimizer=sgd", "optimizer.lr=1e18", "fit.precision=fp32")
    assert done.returncode == 1
    assert "in epoch 1, batch " in done.stderr
    assert "images phantom-0-" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stopped_run_ends_cleanly_and_says_how_to_go_on(workdir, stores, stop):
    said, code = killed_after_epoch(1, stop, "fit.epochs=200")
    mlflow.set_tracking_uri(f"sqlite:///{workdir}/mlflow.db")
    (logged,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert code == 130
    assert logged.info.status == "KILLED"
    assert f"the same command and resume={logged.info.run_id}" in said
    epochs = mlflow.MlflowClient().get_metric_history(logged.info.run_id, "val/auroc")
    best = logged.data.metrics["best/epoch"]
    assert [logged.data.metrics["best/val_auroc"]] == [one.value for one in epochs if one.step == best]
    (listed,) = listing().rows
    assert (listed.state, listed.val_auroc) == ("stopped", logged.data.metrics["best/val_auroc"])
    kept = mlflow.MlflowClient().list_artifacts(logged.info.run_id, "checkpoints")
    assert {file.path for file in kept} == {"checkpoints/best.pt", "checkpoints/last.pt"}
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "Did you mean optimizer.lr?"),
        ("loss=bcee", "loss=bcee is not a choice"),
        ("fit.epochs=0", "fit.epochs must be at least 1, got 0"),
        ("data.root=/nowhere data=nih", "/nowhere"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback_and_makes_nothing(workdir, override, message):
    done = subprocess.run([*TRAIN, *override.split()], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (workdir / "stores").exists()
