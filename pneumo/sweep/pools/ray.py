"""pool=ray: the workers are tasks of a Ray cluster. Ray starts them where there is room, and again when their
process or node has died. Which trials they take is decided by the database, as for any other worker."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pneumo.errors import InputError
from pneumo.sweep import workers
from pneumo.sweep.database import first_line
from pneumo.sweep.pools import travel
from pneumo.sweep.pools.base import Pool, StudyNeeds, Work
from pneumo.sweep.pools.ray_node import Place, StoppedError, own_ip, unreachable, worker

ADDRESS, MODE = "RAY_ADDRESS", "RAY_AUTH_MODE"
# Ray's own names: no telemetry, and none of its pages of logs in the terminal when a node dies
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*",
}
# a cluster that is started here listens on the loopback interface alone
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# begin the environment variables that workers get
CARRIED: tuple[str, ...] = ("PNEUMO_", "MLFLOW_", "PG", "AWS_", "WANDB_")
POLL_SECONDS = 2
PROBE_SECONDS = 180  # of a node that unpacks the code and imports it
STOP_SECONDS = 30  # for workers to store their trials as stopped
GIB = 2**30


@dataclass(kw_only=True)
class RayPool(Pool):
    gpus: float | None = field(metadata={"at_least": 0})
    cpus: float = field(metadata={"above": 0})
    memory_gb: float = field(metadata={"above": 0})
    folder: str | None
    restarts: int = field(metadata={"at_least": 0})
    place: Place = field(init=False, repr=False)  # once it is ready

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_few_gpus(self.gpus or 0)

    @contextmanager
    def ready(self, needs: StudyNeeds) -> Iterator[None]:
        """InputError: there is no cluster, or none of its nodes has room for a worker, or one has not what a
        worker needs."""
        needs.refuse_launcher("ray")
        folder = Path(self.folder).expanduser() if self.folder else Path.cwd()
        with TemporaryDirectory(prefix="pneumo-ray-") as packed:
            travel.pack(Path(packed))
            with connection(packed):
                self.place = Place(folder=str(folder), needs=needs, node_ip=own_ip())
                self._refuse_nodes()
                yield

    def auto(self, n_trials: int, launches_here: bool, memory_each: int) -> int:
        """As many as the nodes have room for now."""
        room = sum(fitting(node["Resources"], self._request()) for node in alive_nodes())
        return max(1, min(room, workers.MOST, n_trials))

    def run(self, work: Work) -> str:
        import ray

        if work.is_over():
            return work.why_stopped()
        request = self._request()
        settings: dict[str, Any] = {
            "num_cpus": request["CPU"],
            "num_gpus": request["GPU"],
            "memory": request["memory"],
            "max_calls": 1,  # a new process for each worker
            "max_retries": self.restarts,
            "retry_exceptions": [StoppedError],
        }
        task = ray.remote(**settings)(worker)
        environment = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        environment[workers.BEGAN] = str(work.began)
        words = without_config_dir(work.words)
        running = {task.remote(n, words, environment, self.place): n for n in range(1, work.n_workers + 1)}
        nodes = alive_nodes()
        try:
            while running and not work.is_over():
                ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for reference in ended:
                    del running[reference]
                    if message := outcome(reference):
                        work.say(message)
                for message in changes(nodes, nodes := alive_nodes()):
                    work.say(message)
                work.show()
        except BaseException:
            for reference in running:
                ray.cancel(reference, force=False)
            ray.wait(list(running), num_returns=max(1, len(running)), timeout=STOP_SECONDS)
            raise
        work.show()
        return work.why_stopped()

    def _request(self) -> dict[str, float]:
        """What each worker asks Ray for, by Ray's names."""
        gpus = self.gpus
        if gpus is None:
            has_gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in alive_nodes())
            gpus = float(self.processes if has_gpus else 0)
        return {"CPU": self.cpus, "GPU": gpus, "memory": int(self.memory_gb * GIB)}

    def _refuse_nodes(self) -> None:
        """InputError: no node has room for a worker, or one that has cannot train the study."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        request, nodes = self._request(), alive_nodes()
        fit = [node for node in nodes if fitting(node["Resources"], request)]
        if not fit:
            raise InputError(
                f"pool=ray: no node has {described(request)}; "
                f"they have {'; '.join(described(node['Resources']) for node in nodes)}"
            )
        probes = {
            ray.remote(Place.refusal)
            .options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            .remote(self.place): name_of(node)
            for node in fit
        }
        for probe, name in probes.items():
            try:
                if message := ray.get(probe, timeout=PROBE_SECONDS):
                    raise InputError(f"pool=ray: {message}")
            except ray.exceptions.RayError as error:
                raise InputError(f"pool=ray: {name} cannot run pneumo: {last_line(error)}") from None


# ---- on the machine of the command


@contextmanager
def connection(packed: str) -> Iterator[None]:
    """Inside the block, this process is connected to the cluster, or to one that it has started itself.
    InputError: that does not work."""
    address = os.environ.get(ADDRESS, "")
    for name, value in {**QUIET, **({} if address else LOOPBACK)}.items():
        os.environ.setdefault(name, value)
    if address.startswith("ray://"):
        raise InputError(f"{ADDRESS}={address}: type the command on a node of the cluster, with HOST:6379")
    if address and address != "auto" and (cause := unreachable(f"tcp://{address}")):
        raise InputError(f"{ADDRESS}={address}: {cause}")
    try:
        import ray
    except ImportError as error:
        raise InputError("pool=ray needs Ray: pip install 'pneumo[ray]'") from error
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    of_own: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        ray.init(
            address or "local",
            runtime_env={"working_dir": packed},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **of_own,
        )
    except (OSError, RuntimeError, ValueError) as error:
        token = f"; if it asks for a token: {MODE}=token" if address and MODE not in os.environ else ""
        raise InputError(f"pool=ray: {first_line(error)}{token}") from error
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray has set its own
        yield
    finally:
        ray.shutdown()


def alive_nodes() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def changes(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each node that has left or joined the cluster."""
    then, names = ({node["NodeID"]: name_of(node) for node in nodes} for nodes in (before, now))
    for node in then.keys() - names.keys():
        yield f"{then[node]} has left the cluster; its workers start again where there is room"
    for node in names.keys() - then.keys():
        yield f"{names[node]} has joined the cluster"


def name_of(node: Mapping[str, Any]) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def fitting(resources: Mapping[str, float], request: Mapping[str, float]) -> int:
    """How many workers a node has room for."""
    return int(min(resources.get(name, 0) / amount for name, amount in request.items() if amount))


def described(resources: Mapping[str, float]) -> str:
    """E.g. `1 GPU, 4 CPU, 16 GB`."""
    gpus, cpus, memory = (resources.get(name, 0) for name in ("GPU", "CPU", "memory"))
    return f"{gpus:g} GPU, {cpus:g} CPU, {memory / GIB:.3g} GB"


def without_config_dir(words: Sequence[str]) -> list[str]:
    """The words of the command without `--config-dir FOLDER`, which is among what travels."""
    from pneumo.runs.search_path import config_dir_parser

    return config_dir_parser().parse_known_args(list(words))[1]


def outcome(reference: Any) -> str:
    """What is to be said of a worker that has ended; empty if it ended well."""
    import ray

    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        return f"a worker ended: {last_line(error)}"


def last_line(error: BaseException) -> str:
    """Of an error of Ray, which begins with where it happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
