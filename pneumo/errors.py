"""Errors of pneumo, and helpers for their messages. The command line prints them without a traceback."""

from collections.abc import Sequence


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


def listed(heading: str, lines: Sequence[str], shown: int = 10) -> str:
    """The heading, the first `shown` lines under it, and how many more there are."""
    rest = [f"  ... and {len(lines) - shown:,} more"] if len(lines) > shown else []
    return "\n".join([heading, *(f"  {line}" for line in lines[:shown]), *rest])
