"""Runs of train.py in folders of their own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow

ROOT = Path(__file__).resolve().parents[1]


def surroundings(**added: str) -> dict[str, str]:
    """Of a process in a folder of its own: with no store, database or server of whoever runs it."""
    ours = ("PNEUMO_", "MLFLOW_", "STUB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **added}


def trained(folder: Path, *overrides: str) -> tuple[float, dict[str, float]]:
    """Seconds of the whole process, and the run's last metrics. Stores are kept in the folder above."""
    folder.mkdir()
    environment = surroundings(PNEUMO_STORES=str(folder.parent / "stores"), PYTHONPATH=str(ROOT))
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
    return took, run.data.metrics
