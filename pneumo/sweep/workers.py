"""workers=N: N processes of the same sweep command on this machine, each with trials of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import IO, Any

import psutil

from pneumo.data.contents import cores

NUMBER = "PNEUMO_WORKER"  # set in the environment of each worker beside the first, to its number
BEGAN = "PNEUMO_BEGAN"  # set for workers that may be started late, to the Unix time of the command
THREADS = "OMP_NUM_THREADS"
AUTO = "auto"
MOST = 8  # trials that run at the same time do not learn from each other
REPEAT_SECONDS = 30  # between interrupts of a worker that has not ended
GIB = 2**30
MEMORY_OF_TINY, MEMORY_OF_OTHERS = 1 * GIB, 4 * GIB  # of one process without a GPU
LEAST_MEMORY = GIB // 2  # of any process that trains


def count(n_trials: int, launches_here: bool, memory_each: int, processes_each: int = 1) -> int:
    """What workers=auto is here: one for each GPU; without a GPU, as many as the cores and the free memory
    are enough for. A worker whose trials have several processes takes as many of each. At most 8 and at
    most `n_trials`; 1 where `launches_here` is false, since the trials are then launched elsewhere.

    `memory_each` is in bytes. Where OMP_NUM_THREADS is set, each process has so many cores, else one."""
    import torch

    if not launches_here or torch.backends.mps.is_available():
        return 1
    by_memory = psutil.virtual_memory().available // memory_each
    here = torch.cuda.device_count() or min(cores() // threads_each(cores()), by_memory)
    return max(1, min(here // processes_each, MOST, n_trials))


def command_words() -> list[str]:
    """The words of this command that each of its workers is given."""
    return [word for word in sys.argv[1:] if not word.startswith("workers=")]


def threads_each(n_workers: int) -> int:
    """The threads of each of so many processes: OMP_NUM_THREADS if it is set, else its share of the cores."""
    given = os.environ.get(THREADS, "")
    return max(1, int(given) if given.isdecimal() else cores() // n_workers)


@contextmanager
def beside(
    n_workers: int, words: Sequence[str], say: Callable[[str], None], processes_each: int = 1
) -> Iterator[None]:
    """Inside the block, n_workers - 1 other processes run the command of these words; at its end they are
    waited for. `processes_each` is how many train each trial.

    What they print is passed to `say`, equal lines once. If the block or the waiting is interrupted, they are
    told to stop, which they do as soon as their trials are stored as stopped, or at once if another interrupt
    comes."""
    if n_workers > 1:
        import torch

        torch.set_num_threads(threads_each(n_workers))
    command = [sys.executable, "-m", "pneumo.cli.sweep", *words]
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [
        subprocess.Popen(command, env=environment(number, n_workers, processes_each), **pipe)
        for number in range(1, n_workers)
    ]
    stopping, said = Event(), set[str]()
    readers = [
        Thread(target=pass_on, args=(process.stdout, said, stopping, say), daemon=True)
        for process in processes
    ]
    for reader in readers:
        reader.start()
    try:
        yield
        wait_for(processes, stopping)  # for their last trials
    except BaseException:
        stopping.set()
        for process in processes:
            process.terminate()
        raise
    finally:
        try:
            wait_for(processes, stopping)
        except KeyboardInterrupt:
            for process in processes:
                process.kill()
            raise
        for reader in readers:
            reader.join()


def wait_for(processes: "Sequence[subprocess.Popen[str]]", stopping: Event) -> None:
    """Returns when all workers have ended; one that is to stop is told so again while it has not."""
    for process in processes:
        while True:
            try:
                process.wait(REPEAT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    process.terminate()


def pass_on(lines: IO[str], said: set[str], stopping: Event, say: Callable[[str], None]) -> None:
    """Says each line that no worker has said before, until they are told to stop."""
    for line in lines:
        text = line.rstrip()
        if text and text not in said and not stopping.is_set():
            said.add(text)
            say(text)


def environment(number: int, n_workers: int, processes_each: int = 1) -> dict[str, str]:
    """A worker's environment variables: its number, its threads, and if there are any, a GPU for each process
    of a trial."""
    import torch

    variables = {**os.environ, NUMBER: str(number), THREADS: str(threads_each(n_workers))}
    if (gpus := torch.cuda.device_count()) > 0:
        own = range(number * processes_each, (number + 1) * processes_each)
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpu_name(index % gpus) for index in own)
    return variables


def gpu_name(index: int) -> str:
    """The name of a GPU by its index among those that this process may use."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return allowed[index] if allowed else str(index)
