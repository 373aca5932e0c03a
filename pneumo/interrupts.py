"""Ctrl-C and SIGTERM: an interrupt is neither lost nor obeyed twice."""

import _thread
import math
import signal
import sys
import threading
import time
from typing import Any

PAUSE_SECONDS = 0.05  # until Python is out of what could not raise it
SAME_SECONDS = 15  # within which a second interrupt means the same as the first


class OnceHandler:
    """A handler of signals that raises KeyboardInterrupt, but not again for one that comes soon after."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, number: int, frame: object) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > SAME_SECONDS:
            raise KeyboardInterrupt

    def forget(self) -> None:
        """The next one is obeyed, however soon it comes."""
        self._last = -math.inf


def interrupt_once() -> None:
    """For a process that gets Ctrl-C from the terminal and SIGTERM from the process that started it: the one
    that comes first raises KeyboardInterrupt, the other must not disturb the storing of its results. One
    that comes much later raises it again, since a library may have caught the first."""
    handler = OnceHandler()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handler)


def repeat_lost_interrupts() -> None:
    """Repeats an interrupt that arrives while Python runs a destructor or the callback of a weak reference.
    Python ignores what is raised there, so that Ctrl-C would have no effect."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(PAUSE_SECONDS, repeat).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook


def repeat() -> None:
    """Interrupts the main thread once more."""
    if isinstance(handler := signal.getsignal(signal.SIGINT), OnceHandler):
        handler.forget()
    interrupt_main_thread()


def interrupt_main_thread() -> None:
    """As Ctrl-C does; called in another thread. Where the system can, it also ends what that thread waits
    for, which Python's own interrupt_main does not."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
