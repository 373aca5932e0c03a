"""An MLflow server on loopback, over the runs of a folder."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

NO_SETTINGS: Mapping[str, str] = {}


@contextmanager
def serving(
    port: int, *options: str, environment: Mapping[str, str] = NO_SETTINGS, prefix: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Of the working directory, once it answers. `options`: more of them; `environment`: what it has beside
    that of the tests; `prefix`: of the paths of its pages."""
    store = ["--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1"]
    under = ["--static-prefix", prefix] if prefix else []
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    said = Path("server.log")
    with said.open("wb") as log:
        process = subprocess.Popen(
            [*command, *store, *under, *options], stdout=log, stderr=log, env={**os.environ, **environment}
        )
    try:
        until = time.monotonic() + 240  # a busy machine is no failure
        while not answers(port, prefix):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < until
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait()


def kill(server: subprocess.Popen[bytes]) -> None:
    """All its processes at once, with SIGKILL."""
    processes = [*psutil.Process(server.pid).children(recursive=True), server]
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # the server ends its workers, its workers the server
            process.kill()
    for process in processes:
        process.wait()


def answers(port: int, prefix: str = "") -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}{prefix}/health").close()
    except (urllib.error.URLError, ConnectionError):
        return False
    return True
