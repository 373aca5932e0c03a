"""pool=local: the workers are processes on this machine, the command itself among them."""

from pneumo.sweep import workers
from pneumo.sweep.pools.base import Pool, Work


class LocalPool(Pool):
    trains_here = True

    def auto(self, n_trials: int, is_shared: bool, memory_each: int) -> int:
        return workers.count(n_trials, is_shared, memory_each)

    def run(self, work: Work) -> str:
        with workers.beside(work.n_workers, work.words, work.say):
            return work.train()
