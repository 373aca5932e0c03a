"""pool=local: the workers are processes on this machine, the command itself among them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import psutil

from pneumo.errors import InputError
from pneumo.sweep import workers
from pneumo.sweep.pools.base import Pool, StudyNeeds, Work


@dataclass(kw_only=True)
class LocalPool(Pool):
    trains_here: ClassVar = True

    def check_workers(self, n_workers: int) -> None:
        """InputError: the machine has too little memory for so many workers."""
        n_processes, memory = n_workers * self.processes, psutil.virtual_memory().total
        if n_processes * workers.LEAST_MEMORY > memory:
            raise InputError(
                f"workers={n_workers} with pool.processes={self.processes} does not fit into this machine's "
                f"memory: it has {memory / workers.GIB:.0f} GiB, and {n_processes:,} processes need "
                f"{n_processes * workers.LEAST_MEMORY / workers.GIB:,.0f} GiB"
            )

    @contextmanager
    def ready(self, needs: StudyNeeds) -> Iterator[None]:
        """InputError: there are too few GPUs for the processes of a trial."""
        if self.processes > 1 and needs.device != "cpu":
            import torch

            self._refuse_few_gpus(torch.cuda.device_count())
        yield

    def auto(self, n_trials: int, launches_here: bool, memory_each: int) -> int:
        return workers.count(n_trials, launches_here, memory_each, self.processes)

    def run(self, work: Work) -> str:
        with workers.beside(work.n_workers, work.words, work.say, self.processes):
            return work.train()
