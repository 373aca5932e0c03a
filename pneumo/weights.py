"""Files of tensors, read without executing what they say."""

from pathlib import Path
from typing import Any

import torch

from pneumo.errors import InputError


def read_tensors(path: Path) -> dict[str, Any]:
    """A dict that torch.save wrote, onto the CPU. InputError: there is no such file, or it is no such dict."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} is not there") from None
    except Exception as error:  # arbitrary bytes make the unpickler raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is not a file of weights ({reason})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a file of weights: it holds a {type(content).__name__}")
    return content
