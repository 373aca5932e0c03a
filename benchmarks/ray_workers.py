"""python benchmarks/ray_workers.py: trials a minute of four workers of pool=ray against one, on PostgreSQL.

As sweep_workers.py, with workers that are tasks on a Ray cluster of two nodes on loopback. A training is a
sleep (stubbed.py), so that four have four times the time of one even on few cores.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
from runs import ROOT, surroundings
from stubbed import SECONDS, SMALL
from sweep_workers import arguments, compare

from pneumo.sweep.storage import open_study

sys.path.insert(0, str(ROOT / "tests"))
import ray_cluster
from postgres import NotInstalledError, Server, running

CHILD = "STUB_RAY_CHILD"  # set in the environment of the command that is measured


def stubbed_worker(number, words, environment, place):  # type: ignore[no-untyped-def]
    """In place of pneumo's worker; travels by value."""
    import stubbed  # replaces Trainer.epochs

    from pneumo.sweep.pools import ray_node
    from pneumo.training.trainer import Trainer

    assert Trainer.epochs is stubbed.one_epoch
    return ray_node.worker(number, words, environment, place)


def command() -> None:
    """`pneumo sweep` whose workers are stubbed; they find this folder in the environment of the nodes."""
    from pneumo.cli.sweep import main
    from pneumo.sweep.pools import ray

    ray.worker = stubbed_worker  # type: ignore[attr-defined]
    ray.CARRIED = (*ray.CARRIED, "STUB_")
    main()


def study(server: Server, workers: int, n_trials: int, seconds: float) -> optuna.Study:
    """Carried out, in a folder of its own."""
    name = f"ray_{workers}"
    server.create(name)
    pool = ["pool=ray", f"workers={workers}", "pool.memory_gb=.5"]
    words = ["-m", *pool, f"n_trials={n_trials}", f"study={name}", "pruner=none", *SMALL]
    environment = surroundings(PNEUMO_STORAGE=server.url(name), **{SECONDS: str(seconds), CHILD: "1"})
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        sys.exit((done.stdout + done.stderr)[-4000:])
    return open_study(server.url(name), name, directions=None).study


def main() -> None:
    given = arguments(__doc__)
    os.environ["PYTHONPATH"] = f"{ROOT / 'benchmarks'}:{os.environ.get('PYTHONPATH', ROOT)}"  # of the nodes
    with running() as server, ray_cluster.running() as cluster:
        for _ in range(2):
            ray_cluster.add_node(cluster, num_cpus=(given.workers + 1) // 2)
        compare(server, study, given)


if __name__ == "__main__":
    if CHILD in os.environ:
        command()
        sys.exit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers end with it
    try:
        main()
    except NotInstalledError as error:
        sys.exit(str(error))
