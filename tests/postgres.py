"""A PostgreSQL server of our own on loopback, from Debian's package, thrown away at the end."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

USER, PASSWORD = "pneumo", "n0t t@ be/seen"  # a password that an address must quote


@dataclass(frozen=True)
class Server:
    programs: Path
    folder: Path
    port: int
    as_user: Sequence[str]  # in front of a program: PostgreSQL refuses to run as root

    def make(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        self._run("initdb", "--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}", "--no-sync")
        secret.unlink()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -F"
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self) -> None:
        """At once, as if it had lost its power; every connection breaks."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")

    def _run(self, program: str, *options: str) -> None:
        command: list[str | Path] = [
            *self.as_user,
            self.programs / program,
            f"--pgdata={self.folder / 'data'}",
            *options,
        ]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NotInstalledError(Exception):
    """Debian's package is not there."""


@contextmanager
def running() -> Iterator[Server]:
    """A new server, until it is left."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise NotInstalledError("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pneumo-postgres-"))  # pytest's own folders are closed to others
    as_user: list[str] = []
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")  # comes with the package
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user = ["runuser", "-u", owner.pw_name, "--"]
    server = Server(found[-1], folder, free_port(), as_user)
    try:
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres():
    """A running server."""
    try:
        with running() as server:
            yield server
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture
def database(postgres):
    """The address of an empty database, password and all."""
    name = f"study_{uuid4().hex}"
    postgres.create(name)
    return postgres.url(name)
