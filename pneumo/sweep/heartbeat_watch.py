"""Heartbeats as one process has seen them change, by its own clock."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class HeartbeatWatch:
    """Tells for how long heartbeats have been silent without comparing times of different clocks. The times
    in an SQLite file are by the clocks of the processes that write them, which may be minutes apart, and of
    which one may be set while it runs."""

    clock: Callable[[], float] = time.monotonic
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def silent_seconds(self, heartbeats: Mapping[int, object]) -> dict[int, float]:
        """For how long each heartbeat, by its trial, has been the same whenever this process looked; 0 where
        it is new."""
        now = self.clock()
        for trial, heartbeat in heartbeats.items():
            if trial not in self._seen or self._seen[trial][0] != heartbeat:
                self._seen[trial] = heartbeat, now
        return {trial: now - self._seen[trial][1] for trial in heartbeats}
