"""What the fuzz tests share: how many inputs there are, random changes of bytes, and a limit of time.

PNEUMO_FUZZ says how many inputs all targets have together; `make fuzz` asks for 30,000."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TARGETS = 10  # tests that are decorated by `fuzzed`
IN_TESTS = 300
SECONDS_AN_INPUT = 120  # a hang; the slowest takes a second, on a busy machine many
INPUTS = int(os.environ.get("PNEUMO_FUZZ", IN_TESTS))
fuzzed = settings(
    max_examples=INPUTS // TARGETS,
    deadline=None,  # of the clock on the wall: a busy machine would fail
    derandomize=INPUTS == IN_TESTS,
    suppress_health_check=list(HealthCheck),
)


@contextmanager
def no_hang() -> Iterator[None]:
    def hung(*_: object) -> None:
        raise AssertionError(f"it took more than {SECONDS_AN_INPUT} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS_AN_INPUT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def mutated(draw: st.DrawFn, content: bytes, tokens: tuple[bytes, ...]) -> bytes:
    """Up to six changes: bytes put in, overwritten, taken out, said twice, or all that follows cut off."""
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.integers(0, 12)))
        new = draw(st.sampled_from(tokens) | st.binary(min_size=1, max_size=4))
        change = draw(st.sampled_from(["put in", "overwrite", "take out", "say twice", "swap", "cut off"]))
        content = {
            "put in": content[:at] + new + content[at:],
            "overwrite": content[:at] + new + content[at + len(new) :],
            "take out": content[:at] + content[end:],
            "say twice": content[:end] + content[at:],
            "swap": content[:at] + content[at:end][::-1] + content[end:],
            "cut off": content[:at] if draw(st.booleans()) else content,
        }[change]
    return content


def mutations(contents: list[bytes], *tokens: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(contents).flatmap(lambda content: mutated(content, tokens or (b"\0", b"\xff")))
