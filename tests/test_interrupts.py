"""Ctrl-C and SIGTERM: neither lost where Python cannot raise them, nor obeyed twice."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pneumo import interrupts
from pneumo.interrupts import interrupt_once

LOST = """
import signal, time, weakref
from pneumo.interrupts import interrupt_once, repeat_lost_interrupts

{handlers}
repeat_lost_interrupts()

class Collected: pass

def on_collection(reference):
    signal.raise_signal(signal.SIGINT)  # as if Ctrl-C came while this runs: Python ignores the exception

one = Collected()
reference = weakref.ref(one, on_collection)
del one
try:
    time.sleep(120)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("handlers", ["", "interrupt_once()"], ids=["python's handler", "of a worker"])
def test_an_interrupt_within_the_callback_of_a_weak_reference_is_repeated(handlers):
    code = LOST.format(handlers=handlers)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n"
    assert "ignored" not in done.stderr


def test_the_first_of_two_interrupts_is_obeyed_and_one_that_comes_much_later(monkeypatch):
    handlers, clock = {}, iter([100.0, 100.2, 130.2])
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    interrupt_once()
    with pytest.raises(KeyboardInterrupt):
        handlers[signal.SIGINT](signal.SIGINT, None)
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
