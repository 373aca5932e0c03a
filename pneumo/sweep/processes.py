"""Several processes on one trial, `pool.processes`. They find each other as those of torchrun do."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from pneumo.errors import PeerError
from pneumo.interrupts import interrupt_once, repeat_lost_interrupts

HOST = "127.0.0.1"
POLL_SECONDS = 1
GRACE_SECONDS = 30  # for the others to end by themselves when one has failed, or the trial was stopped
Given = TypeVar("Given")
Returned = TypeVar("Returned")


def run_in_processes(count: int, function: Callable[[Given], Returned], given: Given) -> Returned:
    """What `function(given)` returns in the first of `count` new processes, all of which call it; the others
    end with the first. Inside, `process_group` joins them. PeerError: one of them failed; the message is the
    last line of its error."""
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    returned = get_context("spawn").SimpleQueue()
    threads = max(1, torch.get_num_threads() // count)
    arguments = (count, store.port, threads, returned, function, given)
    others, started = set(active_children()), None
    try:
        with interrupts_held_back():  # until the new processes can handle them
            started = start_processes(take_part, arguments, count, join=False)  # type: ignore[no-untyped-call]
        wait_for_first(started)
        result: Returned = returned.get()
        return result
    except (ProcessRaisedException, ProcessExitedException) as error:
        last = str(error).strip().splitlines()[-1]
        raise PeerError(f"process {error.error_index + 1} of {count} failed: {last}") from None
    except KeyboardInterrupt:
        if started is not None:
            started.processes[0].terminate()  # which stores its trial as stopped
            started.processes[0].join(GRACE_SECONDS)
        raise
    finally:
        for process in set(active_children()) - others:  # some of them, if starting them was interrupted
            process.kill()
            process.join()


def wait_for_first(started: ProcessContext) -> None:
    """Returns when the first process has ended well. ProcessException: one has failed; all have ended."""
    first = started.processes[0]
    while not started.join(POLL_SECONDS, GRACE_SECONDS) and first.exitcode != 0:
        pass


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Inside the block, Ctrl-C waits, and processes that are started begin without it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_part(
    rank: int,
    count: int,
    port: int,
    threads: int,
    returned: Any,
    function: Callable[[Given], Returned],
    given: Given,
) -> None:
    """The whole of one of the processes."""
    if rank == 0:
        repeat_lost_interrupts()
        interrupt_once()  # Ctrl-C in a terminal comes to this process as well
    else:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it wherever it waits for the others
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": str(True),  # the store that they meet at is not the first one's
    }
    torch.set_num_threads(threads)
    result = function(given)
    if rank == 0:
        returned.put(result)
