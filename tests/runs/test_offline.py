"""What is logged while MLflow is away waits in a file and is sent in order: real servers, killed for real."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import mlflow
import pytest
import torch
from conftest import ROOT, SMALL
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow_server import kill, serving
from postgres import free_port

from pneumo.errors import AwayError
from pneumo.runs import tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.offline import UNSENT, OfflineQueue, QueuedMetrics
from pneumo.runs.tracker import Tracker

RUN = [sys.executable, str(ROOT / "train.py"), *SMALL, "model.width=4"]
entries = st.builds(
    QueuedMetrics,
    metrics=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    step=st.integers(0, 10**6),
    at_ms=st.integers(0, 2**42),
)


@given(st.lists(entries, max_size=5))
def test_what_was_added_comes_back_in_order_to_the_last_digit(tmp_path_factory, given_entries):
    offline_queue = OfflineQueue(tmp_path_factory.mktemp("unsent") / "run" / UNSENT)
    for entry in given_entries:
        offline_queue.add(entry)
    assert offline_queue.entries() == given_entries
    offline_queue.clear()
    assert offline_queue.entries() == []
    assert not offline_queue.path.exists()


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    offline_queue = OfflineQueue(tmp_path / UNSENT)
    offline_queue.add(QueuedMetrics({"a": 1.0}, 1, 5))
    with offline_queue.path.open("a") as file:
        file.write('{"figures": {"a": 2.')
    assert offline_queue.entries() == [QueuedMetrics({"a": 1.0}, 1, 5)]


def test_what_is_sent_twice_is_logged_once(workdir):
    tracking.connect("twice")
    run_id = tracking.create_parent_run("twice", "run", {})
    twice = [QueuedMetrics({"a": 0.5, "b": float("nan")}, step, 1000 + step) for step in (1, 2)]
    tracking.log_queued(run_id, twice[:1])
    tracking.log_queued(run_id, twice)
    for name in "ab":
        history = mlflow.MlflowClient().get_metric_history(run_id, name)
        assert [(point.step, point.timestamp) for point in history] == [(1, 1001), (2, 1002)]


@pytest.fixture
def address(workdir, monkeypatch):
    """Of a server that each test starts and kills; a call to it is retried once, not for a minute."""
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.setenv(tracking.RETRIES, "1")
    return port


def history_of(run_id, metric="val/auroc"):
    """Steps and milliseconds, in the order in which they were logged."""
    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    points = client.get_metric_history(run_id, metric)
    return [(point.step, point.timestamp) for point in sorted(points, key=lambda point: point.timestamp)]


def only_run():
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return found


class Overloaded(BaseHTTPRequestHandler):
    """An MLflow server that refuses all metrics until it has recovered, and keeps those that it takes."""

    status = 200
    taken: ClassVar[list[int]] = []  # steps

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.status == 200:
            self.taken.extend(one["step"] for one in body["metrics"])
        self.send_response(self.status)
        self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *given):
        """Nothing."""


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_an_overloaded_server_refuses_is_kept_and_sent_in_order_once_it_takes_it(
    workdir, address, capsys, monkeypatch, status
):
    monkeypatch.setattr(Overloaded, "status", status)
    monkeypatch.setattr(Overloaded, "taken", [])
    server = ThreadingHTTPServer(("127.0.0.1", address), Overloaded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mlflow.set_tracking_uri(f"http://127.0.0.1:{address}")
    queue = OfflineQueue(workdir / UNSENT)
    tracker = Tracker("0" * 32, "run", "0", queue, RunCallback())
    began = time.monotonic()
    tracker.log({"a": 0.1}, 1)
    tracker.log({"a": 0.2}, 2)
    assert time.monotonic() - began < 60, "not the hour that the server asks for"
    assert [entry.step for entry in queue.entries()] == [1, 2]
    Overloaded.status = 200
    tracker.log({"a": 0.3}, 3)
    server.shutdown()
    server.server_close()
    assert Overloaded.taken == [1, 2, 3]
    assert queue.entries() == []
    said = "".join(capsys.readouterr())
    assert said.count("its metrics wait in") == 1
    assert said.count("has been sent what waited in") == 1


def test_a_server_without_free_connections_to_its_database_is_told_what_it_lacks(workdir):
    full = "BAD_REQUEST: QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00"
    said = str(tracking.unreachable(MlflowException(full)))
    assert said.endswith("to its database: set MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=20 where it is started")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_is_not_hidden_by_an_mlflow_that_is_away(workdir, address, error):
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    with pytest.raises(error), Tracker("0" * 32, "run", "0", OfflineQueue(workdir / UNSENT), RunCallback()):
        raise error


def test_an_mlflow_that_goes_away_before_the_run_exists_is_said_to_be_away(workdir, address, composed):
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    with pytest.raises(AwayError, match=r"^MLflow at http://127.0.0.1:\d+ cannot be used: Connection ref"):
        Tracker.start(composed(*SMALL), RunCallback(), {}, OfflineQueue(workdir / UNSENT))
    assert mlflow.active_run() is None


def test_an_mlflow_that_is_not_there_at_the_start_is_said_before_anything_is_made(workdir, address):
    done = subprocess.run(RUN, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() == f"MLflow at http://127.0.0.1:{address} cannot be used: Connection refused"
    assert not (workdir / "stores").exists()
    assert not list(workdir.rglob("checkpoints"))


class Run:
    """train.py under way."""

    def __init__(self, *overrides):
        self.process = subprocess.Popen(
            [*RUN, *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.said = ""

    def until(self, text):
        """Reads what it says up to a line with this text."""
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        pytest.fail(f"never said {text!r}: {self.said}")

    def ended(self):
        """Its exit code."""
        self.said += self.process.stdout.read()
        return self.process.wait(timeout=120)


@pytest.fixture
def stores(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PNEUMO_STORES", str(tmp_path_factory.getbasetemp() / "stores"))


def test_a_run_outlasts_an_mlflow_that_is_away_and_is_stopped_while_it_is_away_again(
    workdir, address, stores
):
    with serving(address) as server:
        run = Run("fit.epochs=600")
        run.until(" 2/600")
        kill(server)
        run.until("its metrics wait in")
        run.until("/600")
    with serving(address) as server:
        run.until("has been sent what waited in")
        run.until("/600")
        kill(server)
        run.until("its metrics wait in")
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 130
    assert "To continue: the same command and resume=" in run.said
    assert run.said.count("its metrics wait in") == 2, "once each time it goes"
    assert run.said.count("has been sent what waited in") == 1
    assert "Connection refused" in run.said
    assert "Traceback" not in run.said
    assert "secret" not in run.said
    logged, (kept,) = only_run().info.run_id, workdir.rglob(UNSENT)
    for metric in ("val/auroc", "train/loss", "lr"):
        sent = [step for step, _ in history_of(logged, metric)]
        waiting = [entry.step for entry in OfflineQueue(kept).entries() if metric in entry.metrics]
        assert [*sent, *waiting] == list(range(1, len(sent) + len(waiting) + 1)), "none lost, none doubled"


def test_a_run_whose_mlflow_stays_away_is_trained_kept_and_sent_on_resume(
    workdir, address, stores, tmp_path_factory
):
    epochs = 8
    with serving(address) as server:
        run = Run(f"fit.epochs={epochs}")
        run.until(" 2/8")
        kill(server)
        assert run.ended() == 1
    assert " 8/8" in run.said
    assert "AUROC" in run.said, "the result is said all the same"
    assert "Traceback" not in run.said
    assert "secret" not in run.said
    (kept,) = workdir.rglob(UNSENT)
    steps = [entry.step for entry in OfflineQueue(kept).entries() if "val/auroc" in entry.metrics]
    assert steps == list(range(steps[0], epochs + 1))
    times = [entry.at_ms for entry in OfflineQueue(kept).entries()]
    (run_id,) = re.findall("resume=([0-9a-f]{32})", run.said)
    last = torch.load(kept.parent / "last.pt", weights_only=True)["model"]

    with serving(address):
        again = Run(f"fit.epochs={epochs}", f"resume={run_id}")
        assert again.ended() == 0, again.said
    logged = only_run()
    assert (logged.info.run_id, logged.info.status) == (run_id, "FINISHED")
    history = history_of(run_id)
    assert [step for step, _ in history] == list(range(1, epochs + 1))
    assert {at for step, at in history if step in steps} <= set(times), "when it was, not when it was sent"
    assert not kept.exists()
    now = torch.load(kept.parent / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(now[name], value) for name, value in last.items()), "nothing was trained again"


def test_a_run_that_mlflow_has_lost_is_told_and_is_logged_as_a_new_one_on_resume(
    workdir, address, stores, monkeypatch
):
    epochs = 100
    with serving(address) as server:
        run = Run(f"fit.epochs={epochs}")
        run.until(" 2/100")
        kill(server)
        run.until("its metrics wait in")
        run.process.send_signal(signal.SIGSTOP)  # it would end before the next server answers
    for file in workdir.glob("mlflow.db*"):
        file.unlink()
    with serving(address):
        run.process.send_signal(signal.SIGCONT)
        assert run.ended() == 1
        assert "does not have this run any more: its store was emptied or replaced" in run.said
        assert "Traceback" not in run.said
        (last,) = re.findall(r"To send it .*: the same command and resume=(.*)", run.said)
        again = Run(f"fit.epochs={epochs}", f"resume={last}")
        assert again.ended() == 0, again.said
        logged = only_run()
        server = mlflow.MlflowClient(f"http://127.0.0.1:{address}")
        files = {file.path for file in server.list_artifacts(logged.info.run_id)}
    assert "does not have the run" in again.said
    assert logged.info.status == "FINISHED"
    assert logged.data.params["fit.epochs"] == str(epochs)
    assert [step for step, _ in history_of(logged.info.run_id)] == list(range(1, epochs + 1))
    assert "checkpoints" in files


def test_an_mlflow_database_that_cannot_be_made_whole_is_not_made(workdir):
    connect = "from pneumo.runs import tracking; tracking.connect('x')"
    small = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); {connect}"
    done = subprocess.run([sys.executable, "-c", small], capture_output=True, text=True, cwd=workdir)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("pneumo.errors.InputError: MLflow's database ")
    assert [path.name for path in workdir.glob("mlflow.db*")] == ["mlflow.db.lock"]
    subprocess.run([sys.executable, "-c", connect], check=True, cwd=workdir)
    assert sorted(path.name for path in workdir.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]
