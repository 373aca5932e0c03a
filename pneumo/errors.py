"""Errors of pneumo, and helpers for their messages. The command line prints them without a traceback."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from operator import ge, gt, le, lt
from types import NoneType
from typing import Any, get_args

BOUNDS = {"above": gt, "at_least": ge, "below": lt, "at_most": le}


class InputError(ValueError):
    """An option, a file or its content is not valid; the message gives what, where and the value."""


class AwayError(InputError):
    """A database or server cannot be reached."""


class PrunedError(Exception):
    """A study stopped the run; the message gives the reason."""


class SupersededError(Exception):
    """Another process has taken over this run, which this one must not write to any more."""


class PeerError(RuntimeError):
    """Another process of the same training has ended."""


class TooLittleMemoryError(MemoryError):
    """Not even one image fits into memory; the message names the device and what may help."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message gives the epoch, the batch and its images."""


def one_line(text: str) -> str:
    """The text with line breaks and other unprintable characters, as in a file's name, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def hydra_word(key: str, value: object) -> str:
    """An override key=value as it is typed in a shell, quoted for Hydra and for the shell where needed."""
    text = str(value)
    if not re.fullmatch(r"[\w./:~%@?*-]+", text):
        escaped = re.sub(
            r'(\\*)"', r'\1\1\\"', text
        )  # of backslashes, those before a quote alone are doubled
        escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
        text = f'"{escaped}"'
    return shlex.quote(f"{key}={text}")


def listed(heading: str, lines: Sequence[str], shown: int = 10) -> str:
    """The heading, the first `shown` lines under it, and how many more there are."""
    rest = [f"  ... and {len(lines) - shown:,} more"] if len(lines) > shown else []
    return "\n".join([heading, *(f"  {line}" for line in lines[:shown]), *rest])


def check_settings(group: str, settings: Any) -> None:
    """Checks the values of a dataclass against the metadata of its fields, which is `one_of`, a sequence of
    words and booleans, or some of BOUNDS with their numbers. A field keeps the metadata that its base class
    declares.

    Raises InputError, which names the group, the field, what is allowed and the value."""
    classes = [cls for cls in reversed(type(settings).__mro__) if is_dataclass(cls)]
    for field in {field.name: field for cls in classes for field in fields(cls) if field.metadata}.values():
        value, kinds = getattr(settings, field.name), get_args(field.type) or (field.type,)
        if value is None and NoneType in kinds:
            continue
        if "one_of" in field.metadata:
            choices = field.metadata["one_of"]
            words = (str(choice).lower() if isinstance(choice, bool) else choice for choice in choices)
            rule, holds = f"one of {', '.join(words)}", value in choices
        elif float not in kinds and (not isinstance(value, int) or isinstance(value, bool)):
            rule, holds = "a whole number", False
        else:
            limits = field.metadata.items()
            rule = " and ".join(f"{name.replace('_', ' ')} {limit}" for name, limit in limits)
            holds = all(BOUNDS[name](value, limit) for name, limit in limits)
        if not holds:
            null = ", or null" if NoneType in kinds else ""
            raise InputError(f"{group}.{field.name} must be {rule}{null}, got {value!r}")
