"""What a user can mend: said in one line (or a short list), without a traceback."""

from collections.abc import Sequence


class InputError(ValueError):
    """Something given to us is wrong; the message says what, where and the value."""


class AwayError(InputError):
    """A database or a server that is needed cannot be reached."""


class PrunedError(Exception):
    """A study stopped the run; the message says why."""


class SupersededError(Exception):
    """Another process goes on with this one's run: nothing may be written of it any more."""


class PeerError(RuntimeError):
    """Another process of the same training has ended."""


class TooLittleMemoryError(MemoryError):
    """Not even one image fits; the message says on which device and what may help."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message says in which epoch and batch, and on which images."""


def one_line(text: str) -> str:
    """Without line breaks and other characters that do not print, which a file's name may have."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(heading: str, lines: Sequence[str], shown: int = 10) -> str:
    """A heading and the first `shown` lines under it, with a count of the rest."""
    rest = [f"  ... and {len(lines) - shown:,} more"] if len(lines) > shown else []
    return "\n".join([heading, *(f"  {line}" for line in lines[:shown]), *rest])
