"""python benchmarks/many_workers.py: how long a trial waits for its study, in a large study of many workers.

Each worker is a process, forked from one that has read all trials. It takes trials by `StudyRun.claim_jobs`,
samples them, reports twelve epochs with heartbeats and ends them as a job does: all that a worker asks
of the database. Composing, data, training and MLflow are left out; a training is a sleep, of a minute with 60
workers or more and of as many seconds as there are workers with fewer, so that about as many trials begin.
Each figure is measured. The server is a throw-away one on loopback, from Debian's package, with its own 100
connections, but without fsync.
"""

import argparse
import gc
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psycopg
from filled import EPOCHS, METRICS, SPACE, STUDY, fill
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from optuna.trial import Trial
from rich.console import Console
from rich.table import Table
from runs import ROOT
from sqlalchemy import event

import pneumo.sweep.plugin  # noqa: F401 - stores the default sampler
from pneumo.display.address import STORAGE
from pneumo.runs.callback import RunCallback
from pneumo.sweep import attributes
from pneumo.sweep.controller import StudyRun
from pneumo.sweep.heartbeat import heartbeats
from pneumo.sweep.launch import Job
from pneumo.sweep.search_space import Parameter, SearchSpace
from pneumo.sweep.settings import StudySettings
from pneumo.sweep.storage import StudyStorage
from pneumo.sweep.trial import TrialCallback

sys.path.insert(0, str(ROOT / "tests"))
from postgres import Server, running

MINUTE = 60.0
MAX_SHARE = 0.02  # of a minute's training, with 64 workers and 5,000 trials


@dataclass
class Spent:
    """What one trial cost its worker, in seconds but for the last."""

    claiming: float = 0.0  # from asking for a trial to its parameters
    sampling: float = 0.0  # a part of it
    reporting: float = 0.0  # of all its epochs
    ending: float = 0.0
    waiting: float = 0.0  # for the lock of the study, a part of claiming and ending
    holding: float = 0.0  # that lock
    computing: float = 0.0  # of the claiming, on a core of the worker
    statements: int = 0  # of SQL


@dataclass
class Worker:
    """One process."""

    run: "LeanRun"
    training: float  # seconds
    spent: list[Spent] = field(default_factory=list)

    def connect(self) -> None:
        """In the process: connections of its own, and what it needs to measure."""
        engine = self.run.storage.rdb.engine
        engine.dispose(close=False)  # those of the process that it was forked from
        event.listen(engine, "before_cursor_execute", self.count)
        StudyStorage.lock = lambda storage: self.timed_lock()  # type: ignore[assignment, method-assign]
        self.run.worker = self

    @property
    def now(self) -> Spent:
        return self.spent[-1]

    def count(self, *_: Any) -> None:
        if self.spent:
            self.now.statements += 1

    def work(self, until: float) -> None:
        """Takes trials until that time; the first at a random moment of a training's length."""
        time.sleep(random.uniform(0, self.training))
        while time.time() < until:
            self.spent.append(Spent())
            began, computed = time.perf_counter(), time.thread_time()
            jobs = self.run.claim_jobs()
            assert not isinstance(jobs, str)  # the study goes on
            (job,) = jobs
            self.now.claiming = time.perf_counter() - began
            self.now.computing = time.thread_time() - computed
            self.train(job.trial.number)

    def train(self, number: int) -> None:
        """As `pneumo.sweep.job.run_trial` does."""
        storage = self.run.storage
        callback = TrialCallback(storage, number, "val/auroc", {})
        with heartbeats(storage, [number]):
            with self.adding("reporting"):
                callback.take_over("node17:12345:1700000000.00")
            result = callback.run(self.epochs, lambda metrics: [metrics["best/val_auroc"]])
            with self.adding("ending"):
                callback.tell(result, Path("untold"))

    def epochs(self, callback: RunCallback) -> dict[str, float]:
        with self.adding("reporting"):
            callback.on_start(f"{random.getrandbits(128):032x}", "", [])
        best, pause = random.gauss(0.85, 0.03), random.uniform(0.8, 1.2) * self.training / EPOCHS
        for epoch in range(1, EPOCHS + 1):
            time.sleep(pause)
            with self.adding("reporting"):
                callback.ensure_owned()
                callback.on_epoch_end(epoch, {"val/auroc": best - 0.3 / epoch}, epoch == EPOCHS)
        return {**METRICS, "best/val_auroc": best}

    @contextmanager
    def adding(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self.now, name, getattr(self.now, name) + time.perf_counter() - began)

    @contextmanager
    def timed_lock(self) -> Iterator[None]:
        """In place of `StudyStorage.lock`."""
        began = time.perf_counter()
        with LOCK(self.run.storage):
            got = time.perf_counter()
            try:
                yield
            finally:
                if self.spent:
                    self.now.waiting += got - began
                    self.now.holding += time.perf_counter() - got


LOCK = StudyStorage.lock


class LeanRun(StudyRun):
    """A worker's part in the study, without the configuration of its trials."""

    worker: Worker

    def __init__(self, settings: StudySettings):
        self.settings = settings
        space = SearchSpace({name: Parameter(one) for name, one in SPACE.items()}, defaults={}, fixed=())
        self.plan: Any = SimpleNamespace(n_trials=10**9, search=space)
        self.started = time.monotonic()
        self.storage = settings.open_storage()
        self.storage.new_abandoned_runs()  # reads all trials

    def prepare_trial(self, trial: Trial) -> Job:
        """What `StudyRun.prepare_trial` asks of the database."""
        with heartbeats(self.storage, [trial.number]):
            with self.worker.adding("sampling"):
                self.plan.search.suggest(trial)
            key = f"{random.getrandbits(256):064x}"
            assert self.storage.find_duplicate(key) is None
            trial.set_user_attr(attributes.CONFIG_HASH, key)
            trial.set_user_attr(attributes.EFFECTIVE_BATCH, 32)
            trial.set_user_attr(attributes.EPOCHS, EPOCHS)
            trial.set_user_attr(attributes.OVERRIDES, [f"{name}=0.00123" for name in SPACE])
        return Job(trial, [], OmegaConf.create({}))


def settings() -> StudySettings:
    """The defaults of conf/sweep.yaml, for the address in the environment."""
    sampler: Any = ConfigStore.instance().load("hydra/sweeper/sampler/tpe_multivariate.yaml").node
    return StudySettings(
        study=STUDY,
        objective=["val/auroc"],
        n_trials=None,
        hours=None,
        patience=None,
        storage=None,
        pool={},
        workers=1,
        jobs=1,
        retries=2,
        max_failure_rate=0.5,
        dry_run=False,
        trial=None,
        search=dict.fromkeys(("enqueue", "conditional", "design", "exists_where")),
        pruner={"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 5, "n_warmup_steps": 4},
        sampler=cast(Any, OmegaConf.to_container(sampler)),
    )


def carry_out(worker: Worker, seconds: float, ended: Any) -> None:
    """In a process of its own. None instead of what it spent: it failed."""
    try:
        random.seed()
        worker.connect()
        worker.work(time.time() + seconds)
        ended.put(worker.spent)
    except BaseException:
        ended.put(None)
        raise


def measured(url: str, n_workers: int, seconds: float) -> tuple[float, list[Spent]]:
    """Seconds in which one process has read all trials, and what each trial cost so many workers."""
    os.environ[STORAGE] = url
    began = time.perf_counter()
    run = LeanRun(settings())
    opening = time.perf_counter() - began
    run.storage.close()
    gc.collect()
    gc.freeze()  # the workers share what has been read
    context = multiprocessing.get_context("fork")
    ended = context.Queue()
    workers = [Worker(run, min(MINUTE, n_workers)) for _ in range(n_workers)]
    processes = [context.Process(target=carry_out, args=(worker, seconds, ended)) for worker in workers]
    for process in processes:
        process.start()
    found = [ended.get() for _ in processes]
    for process in processes:
        process.join()
    if None in found:
        sys.exit("a worker failed")
    return opening, [one for of_worker in found for one in of_worker]


def row(n_trials: int, n_workers: int, opening: float, spent: list[Spent]) -> tuple[float, list[str]]:
    """The share of a minute that a trial waits for the study, and the line of the table."""

    def both(name: str) -> str:
        values = [getattr(one, name) for one in spent]
        return f"{np.median(values):.2f} {np.percentile(values, 95):.2f}"

    total = [one.claiming + one.reporting + one.ending for one in spent]
    share = float(np.mean(total)) / MINUTE
    cells = [f"{n_trials:,}", str(n_workers), str(len(spent))]
    cells += [both(name) for name in ("claiming", "sampling", "waiting", "holding", "reporting", "ending")]
    cells += [f"{np.median([one.computing for one in spent]):.2f}"]
    return share, [
        *cells,
        f"{np.median([one.statements for one in spent]):.0f}",
        f"{share:.1%}",
        f"{opening:.1f}",
    ]


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 1000, 5000, 10000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=90, help="in which trials are begun")
    options = parser.parse_args()
    names = ("trials", "workers", "taken", "claim", "sample", "wait", "hold", "report", "end")
    table = Table(*names, "CPU", "SQL", "share", "open", box=None, padding=(0, 2, 0, 0))
    goal = 0.0
    with running() as server:
        for n_trials in options.trials:
            server.create(f"of_{n_trials}")
            fill(server.url(f"of_{n_trials}"), n_trials)
            for n_workers in options.workers:
                url = copied(server, f"of_{n_trials}", f"of_{n_trials}_{n_workers}")
                share, cells = row(n_trials, n_workers, *measured(url, n_workers, options.seconds))
                table.add_row(*cells)
                print(*cells, sep=" | ", file=sys.stderr)
                if (n_trials, n_workers) == (5000, 64):
                    goal = share
    Console(highlight=False, width=140).print(table)
    if goal > MAX_SHARE:
        sys.exit(f"at most {MAX_SHARE:.0%} is asked for with 64 workers and 5,000 trials")


def copied(server: Server, database: str, name: str) -> str:
    """The address of a copy of a database."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {database}")
    return str(server.url(name))


if __name__ == "__main__":
    run()
