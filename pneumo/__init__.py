"""Trains and evaluates detectors of pneumothorax in chest X-rays, with Hydra, Optuna and MLflow."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pneumo")
except PackageNotFoundError:  # imported from a folder that was never installed, as a served model is
    __version__ = "unknown"
