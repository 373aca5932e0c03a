"""The ways to name a run. It imports nothing that takes time, so that a name that cannot be one is refused
at once."""

import os
import re
from pathlib import Path

from pneumo.display.address import TRACKING
from pneumo.errors import InputError

RUN_ID = re.compile(r"[0-9a-f]{32}")
SHORTEST_PREFIX = 4  # of a run id or a data identity
PREFIX = re.compile(rf"[0-9a-fA-F]{{{SHORTEST_PREFIX},31}}")
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")  # suffixes of files
BEST, LATEST = "best", "latest"
WAYS = f"a name, an id or its first digits, {LATEST}, or {BEST}"


def check_run_name(name: str) -> str:
    """Returns the name. InputError: it is empty, or there are no runs here that it could name."""
    if not name.strip():
        raise InputError(f"{name!r} is not a run: give {WAYS}")
    check_runs_are_here(f"the run {name!r} cannot be found")
    return name


def check_runs_are_here(otherwise: str) -> None:
    """InputError: runs are neither on a server nor in this folder, where MLflow would make an empty database;
    the message says what follows from that."""
    if TRACKING not in os.environ and not Path("mlflow.db").exists():
        raise InputError(
            f"There is no mlflow.db in {Path.cwd()}, so {otherwise}: go to the folder of the runs, or set "
            f"{TRACKING}"
        )


def is_path(text: str) -> bool:
    """Whether a text that may name a run or a file is the path of a file, there or not."""
    return os.sep in text or Path(text).suffix in WEIGHTS or os.path.isfile(text)  # noqa: PTH113, is_file raises where no file can have that name


def is_best(name: str) -> bool:
    """Whether the name is `best` or `best@NAME`."""
    return name.split("@")[0] == BEST
