"""Files of tensors, read without executing what they say."""

from pathlib import Path
from typing import Any

import torch

from pneumo.errors import InputError


def read_tensors(path: Path, given_as: str = "") -> dict[str, Any]:
    """A dict that torch.save wrote, onto the CPU. InputError: there is no such file, or it is no such dict;
    `given_as` is how the user named the file, if not by its path alone."""
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
