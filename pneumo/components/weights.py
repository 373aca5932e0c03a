"""Reads files of tensors without executing code that they may hold."""

from pathlib import Path
from typing import Any

import torch

from pneumo.errors import InputError


def read_tensors(path: Path, given_as: str = "") -> dict[str, Any]:
    """Returns a dict that torch.save wrote, with its tensors on the CPU. `given_as` replaces the path in
    messages. Raises InputError if the file is missing or holds something else."""
    name = given_as or str(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{name} is not there") from None
    except Exception as error:  # arbitrary bytes make the unpickler raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} is not a file of weights ({reason})") from None
    if not isinstance(content, dict):
        raise InputError(f"{name} is not a file of weights: it holds a {type(content).__name__}")
    return content
