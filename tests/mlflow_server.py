"""An MLflow server on loopback, over the runs of a folder."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Of the working directory, once it answers."""
    store = ["--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *store]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 90
        while not answers(port):
            assert process.poll() is None
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


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
    except (urllib.error.URLError, ConnectionError):
        return False
    return True
