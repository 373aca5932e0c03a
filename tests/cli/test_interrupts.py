"""Ctrl-C where Python cannot raise it."""

import subprocess
import sys

LOST = """
import signal, time, weakref
from pneumo.cli.interrupts import repeat_lost_interrupts

repeat_lost_interrupts()

class Collected: pass

def on_collection(reference):
    signal.raise_signal(signal.SIGINT)  # as if Ctrl-C came while this runs: Python ignores the exception

one = Collected()
reference = weakref.ref(one, on_collection)
del one
try:
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_within_the_callback_of_a_weak_reference_is_repeated():
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n"
    assert "ignored" not in done.stderr
