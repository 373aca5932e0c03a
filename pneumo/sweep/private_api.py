"""The only file that uses private parts of Optuna and Hydra, and SQL of our own.

Each function says why nothing public does. When a new version of a library breaks one of them,
tests/sweep/test_private_api.py names it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import text
from sqlalchemy.engine import Engine

FIXED_PARAMS = "fixed_params"  # Optuna's own attribute of a trial that was enqueued


def fixed_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters a trial was enqueued with, None if it was not; `params` has them only once suggested."""
    return trial.system_attrs.get(FIXED_PARAMS)


def stale_trial_ids(rdb: RDBStorage, study_id: int) -> set[int]:
    """The running trials whose last heartbeat is too old. The public `fail_stale_trials` ends them at once,
    when no attribute can be set any more that tells why."""
    return set(rdb._get_stale_trial_ids(study_id))


def last_heartbeats(rdb: RDBStorage, study_id: int) -> dict[int, object]:
    """The time of the last heartbeat of each trial that has had any; Optuna has no function for them."""
    query = text(
        "SELECT h.trial_id, h.heartbeat FROM trial_heartbeats h JOIN trials t ON t.trial_id = h.trial_id "
        "WHERE t.study_id = :study"
    )
    with rdb.engine.connect() as connection:
        return {
            int(trial_id): heartbeat for trial_id, heartbeat in connection.execute(query, {"study": study_id})
        }


def server_uptime_seconds(engine: Engine) -> float:
    """How long a PostgreSQL server has been up; SQLAlchemy has no function for it."""
    query = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
    with engine.connect() as connection:
        return float(connection.execute(query).scalar_one())


@contextmanager
def advisory_lock(engine: Engine, key: int) -> Iterator[None]:
    """PostgreSQL's lock on a signed 64-bit number, which it releases when the connection of its holder ends;
    SQLAlchemy has no function for it."""
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def parse_distribution(name: str, expression: str) -> BaseDistribution | None:
    """The distribution of e.g. `interval(0, 1)` in Hydra's grammar, None for a single value. Hydra's Optuna
    sweeper has no public function for it. HydraException, ValueError, AssertionError: it is not valid."""
    return create_params_from_overrides([f"{name}={expression}"])[0].get(name)


def job_error(job: JobReturn) -> BaseException | None:
    """What a Hydra job raised, None if nothing; the public `return_value` also prints it before raising
    it."""
    return job._return_value if job.status == JobStatus.FAILED else None
