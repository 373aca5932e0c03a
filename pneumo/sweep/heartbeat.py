"""Signs of life of a trial's process, in the study's database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pneumo.sweep.storage import AWAY, StudyStorage


@contextmanager
def beating(
    ledger: StudyStorage, trial_ids: list[int], handed_over: Callable[[int], bool] = lambda trial_id: False
) -> Iterator[None]:
    """Meanwhile a thread says regularly that these trials are alive, each until it is handed over."""
    stop, pause = threading.Event(), ledger.storage.heartbeat_interval
    mine = list(trial_ids)

    def beat() -> None:
        while mine and not stop.wait(pause):
            try:
                mine[:] = [trial_id for trial_id in mine if not handed_over(trial_id)]
                for trial_id in mine:
                    ledger.storage.record_heartbeat(trial_id)
            except AWAY:
                ledger.storage.remove_session()  # it is tried again at the next beat

    for trial_id in trial_ids:
        ledger.steadily(lambda trial_id=trial_id: ledger.storage.record_heartbeat(trial_id))  # type: ignore[misc]
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
