"""python benchmarks/mlflow_load.py: how many epochs a second an MLflow server takes from up to 64 trainings.

Each client is a process, forked from this one, that logs an epoch's metrics as `Tracker.log` does, first once
a second, then as quickly as it can. Server, PostgreSQL and clients share this machine's cores and loopback;
PostgreSQL is without fsync.
"""

import argparse
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from rich.console import Console
from rich.table import Table
from runs import ROOT, surroundings

from pneumo.runs import tracking

sys.path.insert(0, str(ROOT / "tests"))
from mlflow_server import answers
from postgres import Server, free_port, running

NAMES = [f"val/metric_{number}" for number in range(14)]  # as many as an epoch has
EXPERIMENT = "load"


def log_epochs(address: str, run_id: str, pause: float, seconds: float, ended: Any) -> None:
    """In a process of its own: puts the seconds of each call that was taken, and how many were refused."""
    mlflow.set_tracking_uri(address)
    random.seed()
    time.sleep(random.uniform(0, pause))
    took: list[float] = []
    refused, until = 0, time.time() + seconds
    while (began := time.time()) < until:
        entries = [tracking.queued_now(dict.fromkeys(NAMES, random.random()), step=len(took) + 1)]
        try:
            with tracking.short_timeouts():
                tracking.log_queued(run_id, entries)
            took.append(time.time() - began)
        except MlflowException:
            refused += 1
        time.sleep(max(0.0, began + pause - time.time()))
    ended.put((took, refused))


def created(name: str) -> str:
    """A run's id, once the server has done what the clients before had asked for."""
    until = time.monotonic() + 300
    while True:
        try:
            return tracking.create_parent_run(EXPERIMENT, name, {})
        except MlflowException:
            if time.monotonic() > until:
                raise
            time.sleep(5)


def measured(address: str, n_clients: int, pause: float, seconds: float) -> list[str]:
    """The line of the table."""
    runs = [created(f"run-{number}") for number in range(n_clients)]
    context = multiprocessing.get_context("fork")
    ended = context.Queue()
    clients = [
        context.Process(target=log_epochs, args=(address, run_id, pause, seconds, ended)) for run_id in runs
    ]
    began = time.perf_counter()
    for client in clients:
        client.start()
    found = [ended.get() for _ in clients]
    for client in clients:
        client.join()
    spent = time.perf_counter() - began
    took = [one for of_client, _ in found for one in of_client]
    latencies = np.percentile(took, [50, 95]) if took else (0.0, 0.0)
    refused = sum(refused for _, refused in found)
    how = f"every {pause:g} s" if pause else "at once"
    return [str(n_clients), how, f"{len(took) / spent:.0f}", *(f"{x:.2f}" for x in latencies), str(refused)]


def serve(database: Server, folder: str, workers: int, port: int, pool: int) -> "subprocess.Popen[bytes]":
    """A server of so many processes, each with a pool of connections to its database, once it answers."""
    database.create("mlflow")
    store = database.url("mlflow").replace("postgresql:", "postgresql+psycopg:")
    options = ["--backend-store-uri", store, "--workers", str(workers), "--artifacts-destination", folder]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *options]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = surroundings(MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=str(pool))
    process = subprocess.Popen(command, cwd=folder, env=environment, **quiet)
    until = time.monotonic() + 240
    while not answers(port):
        if process.poll() is not None or time.monotonic() > until:
            process.terminate()
            sys.exit("mlflow server does not answer")
        time.sleep(0.5)
    return process


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--processes", type=int, default=2, help="of the server")
    parser.add_argument("--pool", type=int, default=20, help="connections of each to its database")
    options = parser.parse_args()
    table = Table("clients", "an epoch", "epochs/s", "median s", "95% s", "refused", box=None, padding=(0, 2))
    with running() as database, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        server = serve(database, str(Path(folder)), options.processes, port, options.pool)
        try:
            address = f"http://127.0.0.1:{port}"
            mlflow.set_tracking_uri(address)
            for n_clients in options.clients:
                for pause in (1.0, 0.0):
                    cells = measured(address, n_clients, pause, options.seconds)
                    table.add_row(*cells)
                    print(*cells, sep=" | ", file=sys.stderr)
        finally:
            server.terminate()
            server.wait()
    Console(highlight=False, width=110).print(table)


if __name__ == "__main__":
    run()
