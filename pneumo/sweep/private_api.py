"""The only file that uses private parts of Optuna and Hydra, and SQL of our own.

Each function says why nothing public does. When a new version of a library breaks one of them,
tests/sweep/test_private_api.py names it.
"""

import copy
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import BindParameter, Row, bindparam, text
from sqlalchemy.engine import Engine

FIXED_PARAMS = "fixed_params"  # Optuna's own attribute of a trial that was enqueued


def fixed_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters a trial was enqueued with, None if it was not; `params` has them only once suggested."""
    return trial.system_attrs.get(FIXED_PARAMS)


def known_params(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial, suggested or only enqueued."""
    return {**(fixed_params(trial) or {}), **trial.params}


def stale_trial_ids(rdb: RDBStorage, study_id: int) -> set[int]:
    """The running trials whose last heartbeat is too old. The public `fail_stale_trials` ends them at once,
    when no attribute can be set any more that tells why."""
    return set(rdb._get_stale_trial_ids(study_id))


def last_heartbeats(rdb: RDBStorage, study_id: int) -> dict[int, object]:
    """The time of the last heartbeat of each running trial that has had any, by the trial's id; Optuna has no
    function for them."""
    query = (
        "SELECT h.trial_id, h.heartbeat FROM trial_heartbeats h JOIN trials t ON t.trial_id = h.trial_id "
        "WHERE t.study_id = :study AND t.state = 'RUNNING'"
    )
    return {row.trial_id: row.heartbeat for row in rows(rdb, query, study=study_id)}


def running_without_heartbeat(rdb: RDBStorage, study_id: int) -> set[int]:
    """The ids of the running trials that never had a heartbeat; Optuna has no function for them."""
    query = (
        "SELECT t.trial_id FROM trials t LEFT JOIN trial_heartbeats h ON h.trial_id = t.trial_id "
        "WHERE t.study_id = :study AND t.state = 'RUNNING' AND h.trial_id IS NULL"
    )
    return {row.trial_id for row in rows(rdb, query, study=study_id)}


def trial_numbers(rdb: RDBStorage, study_id: int, state: TrialState) -> set[int]:
    """The numbers of the trials in a state. What is public reads everything that they have reported."""
    query = "SELECT number FROM trials WHERE study_id = :study AND state = :state"
    return {row.number for row in rows(rdb, query, study=study_id, state=state.name)}


def trial_counts(rdb: RDBStorage, study_id: int) -> Counter[TrialState]:
    """How many trials are in each state. What is public counts them in one state a call."""
    query = "SELECT state, count(*) AS trials FROM trials WHERE study_id = :study GROUP BY state"
    return Counter({TrialState[row.state]: row.trials for row in rows(rdb, query, study=study_id)})


def trial_state(rdb: RDBStorage, trial_id: int) -> TrialState:
    """The state of a trial. What is public reads everything that it has reported."""
    (row,) = rows(rdb, "SELECT state FROM trials WHERE trial_id = :trial", trial=trial_id)
    return TrialState[row.state]


def rows(rdb: RDBStorage, query: str, **values: object) -> Sequence[Row[Any]]:
    """What a query of Optuna's tables finds. A value that is a list stands behind IN."""
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)
    ]
    with rdb.engine.connect() as connection:
        return connection.execute(text(query).bindparams(*lists), values).all()


def server_uptime_seconds(engine: Engine) -> float:
    """How long a PostgreSQL server has been up; SQLAlchemy has no function for it."""
    query = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
    with engine.connect() as connection:
        return float(connection.execute(query).scalar_one())


class TrialCache(_CachedStorage):
    """Optuna's cache of the trials that have ended. At each look it reads all that running trials have
    reported; this one does so only where running trials are asked for. Else it reads the trials that have
    ended or been queued since. A worker looks at every epoch and several times a trial."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        known = self._studies.get(study_id)
        if (
            known is None
            or known.last_finished_trial_id < 0
            or states is None
            or TrialState.RUNNING in states
        ):
            return super().get_all_trials(study_id, deepcopy, states)
        with self._lock:
            now = self._read_unfinished(study_id, known, states)
            found = [t for t in known.trials.values() if now.get(t._trial_id, t.state) in states]
        found.sort(key=lambda trial: trial.number)
        return copy.deepcopy(found) if deepcopy else found

    def _read_unfinished(
        self, study_id: int, study: _StudyInfo, states: Container[TrialState]
    ) -> dict[int, TrialState]:
        """The states of the trials that had not ended at the last look, by id; those that have ended or are
        in `states` are read into the cache."""
        query = (
            "SELECT trial_id, state FROM trials WHERE study_id = :study AND (trial_id > :last"
            " OR trial_id IN :unfinished)"
        )
        of_query = {"study": study_id, "last": study.last_finished_trial_id}
        unfinished = sorted(study.unfinished_trial_ids)
        found = rows(self._backend, query, unfinished=unfinished, **of_query)
        now = {row.trial_id: TrialState[row.state] for row in found}
        wanted = {key for key, state in now.items() if state.is_finished() or state in states}
        if wanted:
            read = self._backend._get_trials(study_id, None, wanted, max(now))
            self._add_trials_to_cache(study_id, read)
            now |= {trial._trial_id: trial.state for trial in read}
        ended = {key for key, state in now.items() if state.is_finished()}
        study.unfinished_trial_ids |= now.keys()
        study.unfinished_trial_ids -= ended
        study.last_finished_trial_id = max(study.last_finished_trial_id, *ended, -1)
        return now


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
