"""An interrupt is not lost where Python cannot raise it."""

import _thread
import sys
import threading
from typing import Any

PAUSE_SECONDS = 0.05  # until Python is out of what could not raise it


def repeat_lost_interrupts() -> None:
    """Repeats an interrupt that arrives while Python runs a destructor or the callback of a weak reference.
    Python ignores what is raised there, so that Ctrl-C would have no effect."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(PAUSE_SECONDS, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
