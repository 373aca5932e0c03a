"""Seconds of several ways to do one thing, measured in turns: a machine that slows down slows all of them."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def taking_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, epoch in sorted(sides.items(), reverse=bool(number % 2)):
            started = time.perf_counter()
            epoch()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}
