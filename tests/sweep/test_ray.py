"""Studies whose workers are tasks of a real Ray cluster of several nodes on this machine."""

import os
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from optuna.trial import TrialState
from postgres import PASSWORD
from ray_cluster import add_node, cluster
from test_workers import (
    find_study,
    finished_once,
    printed,
    running_trials,
    runs_of_trials,
    started,
    wait_until,
)

from pneumo.errors import InputError
from pneumo.sweep.attributes import FAILURE
from pneumo.sweep.pools import ray_node
from pneumo.sweep.pools.base import StudyNeeds
from pneumo.sweep.pools.ray import RayPool
from pneumo.sweep.pools.ray_node import Place

__all__ = ["cluster", "started"]  # fixtures
pytestmark = pytest.mark.xdist_group("ray")
POOL = {"processes": 1, "gpus": None, "cpus": 1, "memory_gb": 0.5, "folder": None, "restarts": 0}
NEEDS = {
    "storage": "sqlite:///s.db",
    "tracking": "sqlite:///m.db",
    "data_root": None,
    "launcher": "basic",
    "device": "auto",
}
SMALL_WORKERS = ["pool=ray", "pool.memory_gb=.5", "pruner=none"]


def processes_of(node):
    """The ids of the workers that the raylet of a node has started."""
    (raylet,) = node.all_processes["raylet"]
    return {child.pid for child in psutil.Process(raylet.process.pid).children(recursive=True)}


def test_a_node_that_dies_and_one_that_joins_neither_lose_nor_repeat_a_trial(
    started, workdir, database, cluster, monkeypatch
):
    monkeypatch.setenv("PNEUMO_STORAGE", database)
    staying, dying = add_node(cluster), add_node(cluster)
    sweep = started(*SMALL_WORKERS, "workers=4", "n_trials=6", "fit.epochs=8")
    storage = wait_until(lambda: find_study(database), sweep)
    held = wait_until(lambda: running_trials(storage).keys() & processes_of(dying), sweep)
    assert not open_ports(processes_of(staying) | held)
    cluster.remove_node(dying, allow_graceful=False)
    added = add_node(cluster)
    assert sweep.wait(timeout=200) == 0, printed()
    wait_until(lambda: not any(map(psutil.pid_exists, held)))
    cluster.remove_node(staying)
    cluster.remove_node(added)
    assert printed().count("(127.0.0.1) has left the cluster") == 1
    assert printed().count("(127.0.0.1) has joined the cluster") == 1
    assert "raylet" not in printed()

    trials = storage.trials()
    finished = finished_once(trials, 6)
    assert any("attempts" in trial.user_attrs for trial in finished), "the node took a trial with it"
    runs = runs_of_trials()
    for trial in finished:
        assert runs.pop(trial.user_attrs["run_id"]).info.status == "FINISHED"
    assert not runs, "a killed trial was gone on with in its own"
    for trial in trials:
        assert printed().count(f"\n #{trial.number} ") == 1

    for secret in (PASSWORD.encode(), quote(PASSWORD, safe="").encode()):
        for folder in (workdir, Path(os.environ["RAY_TMPDIR"])):
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert [path for path in files if secret in path.read_bytes()] == []


def open_ports(pids):
    """What listens beyond the loopback interface."""
    connections = [each for pid in pids for each in psutil.Process(pid).net_connections("inet")]
    listening = [each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN]
    return [ip for ip in listening if not ip.removeprefix("::ffff:").startswith("127.")]


def test_an_interrupt_ends_the_workers_and_queues_their_trials_again(started, cluster):
    node = add_node(cluster)
    sweep = started(*SMALL_WORKERS, "workers=2", "n_trials=4", "fit.epochs=200")
    storage = wait_until(lambda: find_study("sqlite:///study.db"), sweep)
    held = wait_until(lambda: len(held := running_trials(storage, epochs=1)) == 2 and held, sweep)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(timeout=60) == 130, printed()
    wait_until(lambda: not any(map(psutil.pid_exists, held)))
    cluster.remove_node(node)
    stopped = [storage.trial(number) for number in held.values()]
    assert [(t.state, t.user_attrs[FAILURE]) for t in stopped] == [(TrialState.FAIL, "stopped")] * 2
    assert len(storage.trials(TrialState.WAITING)) == 2
    assert "Traceback" not in printed()
    assert "stopped   0 of 4 trials are done and stored" in printed()


def test_a_node_that_lacks_the_data_and_a_cluster_without_room_are_refused(cluster, workdir):
    def refusal(**settings):
        with pytest.raises(InputError) as raised, RayPool(**{**POOL, **settings}).ready(needs):
            pass
        return str(raised.value)

    needs = StudyNeeds(**{**NEEDS, "data_root": "/nowhere"})
    node = add_node(cluster)
    assert f"node {socket.gethostname()} (127.0.0.1) has no data.root=/nowhere" in refusal()
    assert "no node has 2 GPU, 1 CPU, 0.5 GB; they have 0 GPU" in refusal(gpus=2)
    cluster.remove_node(node)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ({"node_ip": "10.0.0.1"}, "cannot share the file PNEUMO_STORAGE=sqlite:///s.db"),
        ({"folder": "/proc/here"}, "has no folder /proc/here"),
        (
            {"storage": "postgresql://me:secret@127.0.0.1:1/s"},
            "reach postgresql://127.0.0.1:1/s: Conn",
        ),
        ({"tracking": "http://127.0.0.1:1"}, "cannot reach http://127.0.0.1:1: Connection refused"),
        ({"storage": "postgresql://h/s", "tracking": "mlruns", "node_ip": "10.0.0.1"}, "URI=mlruns: several"),
    ],
)
def test_what_a_node_cannot_reach_is_named(workdir, monkeypatch, place, why):
    monkeypatch.setattr(ray_node, "own_ip", lambda: "127.0.0.1")
    needs = {name: place.pop(name) for name in NEEDS if name in place}
    where = {"folder": str(workdir), "node_ip": "127.0.0.1", **place}
    assert why in Place(needs=StudyNeeds(**{**NEEDS, **needs}), **where).refusal()


@pytest.mark.parametrize(
    ("address", "why"),
    [("ray://127.0.0.1:10001", "type the command on a node"), ("127.0.0.1:1", "Connection refused")],
)
def test_a_cluster_that_cannot_be_used_is_named(monkeypatch, workdir, address, why):
    monkeypatch.setenv("RAY_ADDRESS", address)
    refused = pytest.raises(InputError, match=f"RAY_ADDRESS={address}: .*{why}")
    with refused, RayPool(**POOL).ready(StudyNeeds(**NEEDS)):
        pass
