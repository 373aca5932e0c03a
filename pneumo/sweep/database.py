"""The database that holds studies: which addresses are accepted, and how it is opened, locked and waited
for."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pneumo.display.address import apart, hidden, parsed, shown
from pneumo.errors import AwayError, InputError
from pneumo.sweep.private_api import advisory_lock

HEARTBEAT_SECONDS = 10  # the default of a study
MISSED_HEARTBEATS = 3  # after so many a trial's process is taken for dead
CREATION_LOCK = 7236  # the same number in all versions, or two of them could create the tables at once
MAX_PAUSE_SECONDS = 30
# Of each process between calls: PostgreSQL's default is 100 in all; a claim opens a second.
KEPT_CONNECTIONS = 1
UNREACHABLE = (StorageInternalError, OperationalError, ConnectionError, AwayError)
Result = TypeVar("Result")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used")


@contextmanager
def connect(url: str, heartbeat_seconds: int) -> Iterator[RDBStorage]:
    """The database at an address, its tables created if missing; no other process opens it meanwhile.
    InputError: the address cannot be used. AwayError: the database cannot be reached."""
    address = check_address(url)
    is_file = address.drivername == "sqlite"  # which has no password, and options that SQLAlchemy reads
    address, secret = (address, {}) if is_file else apart(address)
    try:
        engine = create_engine(address, connect_args=secret, poolclass=NullPool)
        with lock(engine, CREATION_LOCK):
            yield RDBStorage(
                address.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": {} if "timeout" in address.query else {"timeout": 60}}
                if is_file
                else {"connect_args": secret, "pool_pre_ping": True, "pool_size": KEPT_CONNECTIONS},
                heartbeat_interval=heartbeat_seconds,
                grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
            )
    except (ImportError, NoSuchModuleError) as error:
        raise InputError("A PostgreSQL storage needs its driver: pip install 'pneumo[postgresql]'") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise AwayError(unreachable_message(url, error)) from error


@contextmanager
def lock(engine: Engine, key: int) -> Iterator[None]:
    """One process at a time on the database; if it dies, the lock is released. `key` tells PostgreSQL's locks
    apart, while an SQLite file has a single one."""
    if engine.name == "sqlite":
        with FileLock(f"{engine.url.database}.lock"):
            yield
    else:
        with advisory_lock(engine, key):
            yield


def close(rdb: RDBStorage) -> None:
    rdb.remove_session()
    rdb.engine.dispose()


def check_address(address: str) -> URL:
    """InputError: neither an SQLite file, in a folder that exists, nor PostgreSQL, or no address."""
    kind = address.split(":", 1)[0]
    if kind == "sqlite":
        url = parsed(address)
        if url.database in (None, "", ":memory:", "file::memory:") or url.query.get("mode") == "memory":
            raise InputError(
                f"storage={shown(address)} is a study in memory, which no other process or later command "
                "finds; sqlite:///study.db keeps it in a file"
            )
        folder = Path(url.database or "").parent
        if not folder.is_dir():
            raise InputError(f"storage={shown(address)}: the folder {folder} does not exist")
        return url
    if kind == "grpc":
        raise InputError(
            f"storage={shown(address)}: Optuna's gRPC proxy passes on neither heartbeats nor locks, so that "
            "a killed trial would stay running; use the database behind it, postgresql://USER@HOST/DATABASE"
        )
    if kind.split("+")[0] not in ("postgresql", "postgres"):
        raise InputError(f"storage must begin with sqlite:/// or postgresql://, got {shown(address)!r}")
    try:
        return parsed(address).set(drivername="postgresql+psycopg")
    except InputError as error:
        raise InputError(f"storage={shown(address)}: {error}") from None


def retry(call: Callable[[], Result], seconds: float) -> Result:
    """Calls again after growing pauses while the call raises AwayError, which is raised after `seconds`."""
    started, pause = time.monotonic(), 0.5
    while True:
        try:
            return call()
        except AwayError:
            if time.monotonic() - started + pause > seconds:
                raise
        time.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)


def unreachable_message(url: str, error: Exception) -> str:
    if isinstance(error, AwayError):
        return str(error)
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return f"The study's storage {shown(url)} cannot be reached: {hidden(first_line(cause))}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
