"""Heartbeats: rows in the study's database that show that the processes of running trials are alive."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from pneumo.sweep.database import UNREACHABLE
from pneumo.sweep.storage import StudyStorage


@contextmanager
def heartbeats(
    storage: StudyStorage, numbers: Sequence[int], handed_over: Callable[[int], bool] = lambda number: False
) -> Iterator[None]:
    """Records the heartbeats of these trials in a thread, each until it is handed over to its job."""
    stop, pause = threading.Event(), storage.rdb.heartbeat_interval
    remaining = list(numbers)

    def beat() -> None:
        while remaining and not stop.wait(pause):
            try:
                remaining[:] = [number for number in remaining if not handed_over(number)]
                for number in remaining:
                    storage.record_heartbeat(number)
                storage.dead_trial_ids()  # looks at those of others too
            except UNREACHABLE:
                storage.rdb.remove_session()  # the next beat tries again

    for number in numbers:
        storage.with_retries(partial(storage.record_heartbeat, number))
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
