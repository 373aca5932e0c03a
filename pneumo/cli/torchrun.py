"""How one of torchrun's processes ends with an error: what all of them find is said once."""

import os
import sys
import time
from typing import NoReturn

IS_FIRST = os.environ.get("RANK", "0") == "0"
MINUTE = 60.0  # torchrun ends the other processes within a second or two once one has failed


def exit_with(message: str, code: int = 1) -> NoReturn:
    """Ends with an error that every process of the training should find. The first says it, and torchrun
    ends the others; one that still runs after a minute has found it alone, and says it as well."""
    if not IS_FIRST:
        wait_to_be_ended(MINUTE)
    if code == 1:
        sys.exit(message)  # which prints it
    print(message, file=sys.stderr)
    sys.exit(code)


def exit_after_another(message: str) -> NoReturn:
    """Ends because another process of the training has ended, which has time to say why."""
    if IS_FIRST:
        print(message, file=sys.stderr, flush=True)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            wait_to_be_ended(2 * MINUTE)
    sys.exit(1)


def wait_to_be_ended(seconds: float) -> None:
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:  # what train.py makes of SIGTERM
        sys.exit(130)
