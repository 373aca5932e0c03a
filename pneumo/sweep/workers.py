"""Several processes of the same command on this machine."""

import os
import subprocess
import sys

NUMBER = "PNEUMO_WORKER"


def run(n_workers: int) -> None:
    """Starts them and waits for their end; told to stop, it stops them."""
    words = [word for word in sys.argv[1:] if not word.startswith("workers=")]
    command = [sys.executable, "-m", "pneumo.cli.sweep", *words]
    processes = [subprocess.Popen(command, env=surroundings(i, n_workers)) for i in range(n_workers)]
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise


def surroundings(number: int, n_workers: int) -> dict[str, str]:
    """A GPU of its own where there are some, else its share of the processor's cores."""
    import torch

    own = {**os.environ, NUMBER: str(number)}
    if (gpus := torch.cuda.device_count()) > 0:
        return own | {"CUDA_VISIBLE_DEVICES": visible(number % gpus)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return own | {"OMP_NUM_THREADS": str(max(1, cores // n_workers))}


def visible(index: int) -> str:
    """The name of the GPU of that index among those this process may use."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return allowed[index] if allowed else str(index)
