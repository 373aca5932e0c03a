"""workers=N: several processes of the same sweep command on this machine."""

import os
import subprocess
import sys

NUMBER = "PNEUMO_WORKER"  # set in the environment of each worker, to its number


def run(n_workers: int) -> None:
    """Starts the workers and waits until all have ended; an interrupt terminates them."""
    overrides = [word for word in sys.argv[1:] if not word.startswith("workers=")]
    command = [sys.executable, "-m", "pneumo.cli.sweep", *overrides]
    processes = [subprocess.Popen(command, env=environment(i, n_workers)) for i in range(n_workers)]
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise


def environment(number: int, n_workers: int) -> dict[str, str]:
    """A worker's environment variables: one GPU if there are any, else its share of the CPU cores."""
    import torch

    variables = {**os.environ, NUMBER: str(number)}
    if (gpus := torch.cuda.device_count()) > 0:
        return variables | {"CUDA_VISIBLE_DEVICES": gpu_name(number % gpus)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return variables | {"OMP_NUM_THREADS": str(max(1, cores // n_workers))}


def gpu_name(index: int) -> str:
    """The name of a GPU by its index among those that this process may use."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return allowed[index] if allowed else str(index)
