"""What a Ray task does on its node: it checks what is there, and takes trials as a worker."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pneumo.display.address import parsed, shown
from pneumo.runs import search_path
from pneumo.sweep.pools.base import StudyNeeds

CONNECT_SECONDS = 5
PORTS = {"postgresql": 5432, "postgres": 5432, "http": 80, "https": 443}
INTERRUPTED = 130  # the exit code after an interrupt


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
        ip = own_ip()
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


def own_ip() -> str:
    """By which Ray knows this node."""
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def unreachable(address: str) -> str:
    """Why nobody answers at the address of a server; empty if it answers, and for files."""
    url = parsed(address) if "://" in address else None
    if url is None or url.host is None:
        return ""
    kind = url.drivername.split("+")[0]
    try:
        socket.create_connection((url.host, url.port or PORTS.get(kind, 0)), CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def worker(number: int, words: Sequence[str], environment: Mapping[str, str], place: Place) -> str:
    """Takes trials until there are none, as the worker of this number; returns what is to be said of it,
    empty if it ended well. StoppedError: it was told to stop."""
    os.environ.update(environment)
    if message := place.refusal():
        return f"a worker ended: {message}"
    from pneumo.sweep import workers  # imports more than a refusal needs

    os.environ[workers.NUMBER] = str(number)
    conf = search_path.PACKAGE.parent / search_path.FOLDER  # beside the code, where `travel.pack` has put it
    sys.argv = ["sweep.py", *words, *(["--config-dir", str(conf)] if conf.is_dir() else [])]
    try:
        import_module("pneumo.cli.sweep").main()  # lies above this package; Hydra reads the words
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            raise StoppedError("it was stopped") from None
        return f"a worker on {socket.gethostname()} ended: {str(ended.code).strip()}" if ended.code else ""
    return ""
