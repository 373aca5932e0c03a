"""How long a run takes, and each of its phases."""

import time

from pneumo.display.format import duration

SHORTEST = 0.5  # seconds of a phase that is named


class PhaseTimes:
    """Measures phases, one after another, from `began`, in seconds as of `time.time`."""

    def __init__(self, began: float, phase: str):
        self._began, self._since, self._phase = began, began, phase
        self._seconds: dict[str, float] = {}

    def begin(self, phase: str) -> None:
        """The present phase ends, and this one begins or goes on."""
        now = time.time()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._since, self._phase = now, phase

    def summary(self) -> str:
        """2:23, of which loading 7 s, training 1:51, evaluating 9 s."""
        self.begin(self._phase)
        parts = [f"{name} {duration(s)}" for name, s in self._seconds.items() if s >= SHORTEST]
        whole = duration(self._since - self._began)
        return f"{whole}, of which {', '.join(parts)}" if len(parts) > 1 else whole
