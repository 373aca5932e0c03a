"""pool=ray: the workers are tasks of a Ray cluster. Ray starts them where there is room, and again where their
process or node has died; which trials they take is as in any other worker decided by the database."""

import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pneumo.display.address import parsed, shown
from pneumo.errors import InputError, check_settings
from pneumo.sweep import workers
from pneumo.sweep.database import first_line
from pneumo.sweep.pools import travel
from pneumo.sweep.pools.base import Pool, StudyNeeds, Work

ADDRESS = "RAY_ADDRESS"
# Ray's own names: no telemetry; what is started here listens on the loopback interface alone
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
CARRIED = ("PNEUMO_", "MLFLOW_", "PG", "AWS_", "WANDB_")  # begin the environment variables that workers get
POLL_SECONDS = 2
CONNECT_SECONDS = 5
PROBE_SECONDS = 180  # of a node that unpacks the code and imports it
STOP_SECONDS = 30  # for workers to store their trials as stopped
PORTS = {"postgresql": 5432, "postgres": 5432, "http": 80, "https": 443}
GIB = 2**30


class StoppedError(Exception):
    """The worker was stopped, though not by its study: its node is taken away, for example."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker works, and with what it must be able to reach there."""

    folder: str
    needs: StudyNeeds
    node_ip: str  # of the command

    def refusal(self) -> str:
        """Why the study cannot be trained on this node; empty if it can."""
        import ray

        ip = ray.util.get_node_ip_address()
        node = f"node {socket.gethostname()} ({ip})"
        if self.needs.files and ip != self.node_ip:
            return f"{node} cannot share the file {self.needs.files[0]}: several machines need servers"
        try:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            os.chdir(self.folder)
        except OSError as error:
            return f"{node} has no folder {self.folder}: {error.strerror}"
        root = self.needs.data_root
        if root is not None and not Path(root).expanduser().is_dir():
            return f"{node} has no data.root={root}"
        for address in (self.needs.storage, self.needs.tracking):
            if cause := unreachable(address):
                return f"{node} cannot reach {shown(address)}: {cause}"
        return ""


@dataclass(frozen=True, kw_only=True)
class RayPool(Pool):
    gpus: float | None = field(metadata={"at_least": 0})
    cpus: float = field(metadata={"above": 0})
    memory_gb: float = field(metadata={"above": 0})
    folder: str | None
    restarts: int = field(metadata={"at_least": 0})

    def __post_init__(self) -> None:
        check_settings("pool", self)

    @contextmanager
    def ready(self, needs: StudyNeeds) -> Iterator[None]:
        """InputError: there is no cluster, or none of its nodes has room for a worker, or one has not what a
        worker needs."""
        needs.refuse_launcher("ray")
        place = Path(self.folder).expanduser() if self.folder else Path.cwd()
        with TemporaryDirectory(prefix="pneumo-ray-") as packed:
            travel.pack(Path(packed))
            with connection(packed):
                import ray

                node_ip = ray.util.get_node_ip_address()
                object.__setattr__(self, "_place", Place(folder=str(place), needs=needs, node_ip=node_ip))
                self._refuse_nodes()
                yield

    def auto(self, n_trials: int, is_shared: bool, memory_each: int) -> int:
        """As many as the nodes have room for now."""
        room = sum(fitting(node["Resources"], self._request()) for node in alive_nodes())
        return max(1, min(room, workers.MOST, n_trials))

    def run(self, work: Work) -> str:
        import ray

        if work.is_over():
            return work.why_stopped()
        request = self._request()
        task = ray.remote(
            num_cpus=request["CPU"],
            num_gpus=request["GPU"],
            memory=request["memory"],
            max_calls=1,  # a new process for each worker
            max_retries=self.restarts,
            retry_exceptions=[StoppedError],
        )(worker)
        environment = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        words = without_config_dir(work.words)
        place = self._place
        running = {task.remote(n, words, environment, place): n for n in range(1, work.n_workers + 1)}
        try:
            while running and not work.is_over():
                ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for reference in ended:
                    del running[reference]
                    if message := outcome(reference):
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
            gpus = float(any(node["Resources"].get("GPU", 0) >= 1 for node in alive_nodes()))
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
            ray.remote(refusal)
            .options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            .remote(self._place): node["NodeManagerAddress"]
            for node in fit
        }
        for probe, ip in probes.items():
            try:
                if message := ray.get(probe, timeout=PROBE_SECONDS):
                    raise InputError(f"pool=ray: {message}")
            except ray.exceptions.RayError as error:
                raise InputError(f"pool=ray: node {ip} cannot run pneumo: {last_line(error)}") from None


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
    if address and address != "auto" and (cause := unreachable(f"//{address}")):
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
            logging_level="error",
            **of_own,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"pool=ray: {first_line(error)}") from error
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray has set its own
        yield
    finally:
        ray.shutdown()


def alive_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


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


# ---- on any machine of the cluster


def unreachable(address: str) -> str:
    """Why nobody answers at the address of a server; empty if it answers, and for files."""
    kind, _, rest = address.partition("//")
    kind = kind.rstrip(":").split("+")[0]
    if kind == "sqlite":
        return ""
    url = parsed(address if kind else f"tcp://{rest}")
    if url.host is None:
        return ""
    try:
        socket.create_connection((url.host, url.port or PORTS.get(kind, 0)), CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def refusal(place: Place) -> str:
    return place.refusal()


def worker(number: int, words: Sequence[str], environment: Mapping[str, str], place: Place) -> str:
    """Takes trials until there are none, as the worker of this number; returns what is to be said of it,
    empty if it ended well. StoppedError: it was told to stop."""
    os.environ.update(environment)
    if message := place.refusal():
        return f"a worker ended: {message}"
    os.environ[workers.NUMBER] = str(number)
    conf = travel.user_conf()
    sys.argv = ["sweep.py", *words, *(["--config-dir", str(conf)] if conf.is_dir() else [])]
    from pneumo.cli.sweep import main  # Hydra reads the words

    try:
        main()
    except SystemExit as ended:
        if ended.code == 130:
            raise StoppedError("it was stopped") from None
        return f"a worker on {socket.gethostname()} ended: {str(ended.code).strip()}" if ended.code else ""
    return ""
