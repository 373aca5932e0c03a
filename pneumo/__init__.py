"""Trains and evaluates detectors of pneumothorax in chest X-rays, with Hydra, Optuna and MLflow."""

import os
from importlib.metadata import PackageNotFoundError, version

# torch's threads sleep while they wait for each other; by default they spin, and take the cores from other
# jobs. OpenMP reads this when torch is loaded
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

try:
    __version__ = version("pneumo")
except PackageNotFoundError:  # imported from a folder that was never installed, as a served model is
    __version__ = "unknown"
