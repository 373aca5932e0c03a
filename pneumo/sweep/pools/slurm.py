"""pool=slurm: the workers are the elements of a SLURM array, of which the script is written here."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pneumo.data.atomic import atomic_path
from pneumo.errors import InputError
from pneumo.sweep.pools.base import Pool, StudyNeeds, Work
from pneumo.sweep.workers import MOST

FOLDER = Path("outputs/slurm")


@dataclass(kw_only=True)
class SlurmPool(Pool):
    gpus: int = field(metadata={"at_least": 0})
    cpus: int = field(metadata={"at_least": 1})
    memory_gb: int = field(metadata={"at_least": 1})
    minutes: int = field(metadata={"at_least": 2})
    at_once: int | None = field(metadata={"at_least": 1})
    partition: str | None
    setup: Sequence[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_few_gpus(self.gpus)

    @contextmanager
    def ready(self, needs: StudyNeeds) -> Iterator[None]:
        """InputError: a database is a file, which the nodes of a cluster cannot share."""
        needs.refuse_launcher("slurm")
        if needs.files:
            raise InputError(f"pool=slurm needs servers that all nodes reach, got {needs.files[0]}")
        yield

    def auto(self, n_trials: int, launches_here: bool, memory_each: int) -> int:
        return max(1, min(MOST, n_trials))

    def run(self, work: Work) -> str | None:
        """Writes the script; nothing is submitted."""
        if work.is_over():
            return work.why_stopped()
        path = FOLDER / f"{work.study}.sh"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as beside:
            beside.write_text(self.script(work.n_workers, work.words))
        work.say(f"next      sbatch {shlex.quote(str(path))} · {work.n_workers} workers, from this directory")
        return None

    def script(self, n_workers: int, words: Sequence[str]) -> str:
        """The lines of the script of so many workers of the command."""
        settings = {
            "job-name": "pneumo",
            "array": f"0-{n_workers - 1}{f'%{self.at_once}' if self.at_once else ''}",
            "time": self.minutes,
            "gpus": self.gpus or None,
            "cpus-per-task": self.cpus,
            "mem": f"{self.memory_gb}G",
            "partition": self.partition,
            "signal": "B:TERM@60",
            "output": f"{FOLDER}/%A-%a.txt",
        }
        directives = [f"#SBATCH --{name}={value}" for name, value in settings.items() if value is not None]
        threads = f"export OMP_NUM_THREADS={self.cpus}"
        kept = [word for word in words if not word.startswith(("pool=", "pool."))]
        pool = ["pool=local", f"pool.processes={self.processes}", "workers=1"]
        command = shlex.join([sys.executable, "-m", "pneumo.cli.sweep", *kept, *pool])
        # exec: the signal goes to the script's own process, which must be Python
        return "\n".join(["#!/bin/bash", *directives, *self.setup, threads, f"exec {command}", ""])
