"""A Ray cluster of our own on loopback, of several nodes, thrown away at the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LOOPBACK = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
NODE = {"num_cpus": 2, "node_ip_address": "127.0.0.1"}


@contextmanager
def running():
    """A head without cores, to which nodes are added. Its files are in a folder with a short name: paths of
    sockets have at most 107 characters."""
    before = dict(os.environ)
    folder = tempfile.mkdtemp(prefix="pray", dir="/tmp")
    os.environ |= {**LOOPBACK, "RAY_TMPDIR": folder}
    from ray.cluster_utils import Cluster  # reads the environment

    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False}
    )
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def add_node(cluster, **settings):
    """A node with a folder of its own, as one on another machine has."""
    folder = tempfile.mkdtemp(prefix="n", dir=os.environ["RAY_TMPDIR"])
    return cluster.add_node(**{**NODE, "temp_dir": folder, **settings})


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    with running() as started:
        yield started
