"""Trains and evaluates detectors of pneumothorax in chest X-rays, with Hydra, Optuna and MLflow.

In Python: `train`, `load`, `compare` and `runs` (docs/python.md)."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pneumo.api import Run, compare, load, train

__all__ = ["Run", "compare", "load", "runs", "train"]

try:
    __version__ = version("pneumo")
except PackageNotFoundError:  # imported from a folder that was never installed, as a served model is
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    """What __all__ names is imported when it is used: torch and MLflow take seconds."""
    if name == "runs":
        return import_module("pneumo.runs")
    if name in __all__:
        return getattr(import_module("pneumo.api"), name)
    raise AttributeError(f"module 'pneumo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
