"""What a run may be called on the command line. It imports nothing that takes time, so that a wrong name is
refused at once."""

import re

from pneumo.errors import InputError

RUN_ID = re.compile(r"[0-9a-f]{32}")
BEST = re.compile(r"best(@.*)?")


def check_run_name(name: str) -> str:
    """Returns the name. InputError: it is neither a run id nor `best` or `best@NAME`."""
    if not (RUN_ID.fullmatch(name) or BEST.fullmatch(name)):
        raise InputError(f"{name!r} is not a run: 32 hexadecimal digits are, or best")
    return name
