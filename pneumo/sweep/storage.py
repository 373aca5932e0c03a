"""A study in its database: who trains which trial, and how each trial ended.

Several processes share a study. Whatever must not happen twice happens under `StudyStorage.lock`. Trials are
named by their number, which counts from 0 in each study.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from typing import Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from pneumo.display.address import hidden, shown
from pneumo.errors import AwayError, InputError
from pneumo.runs.identity import new_study_id
from pneumo.sweep import attributes, database, private_api
from pneumo.sweep.database import HEARTBEAT_SECONDS, UNREACHABLE, Result
from pneumo.sweep.heartbeat_watch import HeartbeatWatch

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # what n_trials counts
PROCESS_DIED = "its process died"
PROCESS_DIED_EARLY = "its process died before the trial began"
REASON_LENGTH = 1000  # characters


@dataclass(frozen=True)
class StudyStorage:
    """A study and the database it lies in; each object has connections of its own."""

    study: optuna.Study
    rdb: RDBStorage
    retries: int  # of a trial that crashed
    patience_seconds: float  # how long a call is repeated while the database cannot be reached
    # numbers of failed trials, which never change again: those that are queued again or are not to be, and
    # those whose runs are not abandoned or have been returned
    _settled: set[int] = field(default_factory=set, init=False, repr=False)
    _examined: set[int] = field(default_factory=set, init=False, repr=False)
    _trial_ids: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _watch: HeartbeatWatch = field(default_factory=HeartbeatWatch, compare=False, repr=False)

    @property
    def study_id(self) -> str:
        return str(self.study.user_attrs[attributes.STUDY_ID])

    @property
    def tags(self) -> dict[str, str]:
        """The tags of all MLflow runs of the study."""
        return {"study": self.study.study_name, attributes.STUDY_ID: self.study_id}

    @cached_property
    def _row_id(self) -> int:
        return int(self.rdb.get_study_id_from_name(self.study.study_name))

    def trial_id(self, number: int) -> int:
        """The key of a trial in the database, by its number in the study."""
        if number not in self._trial_ids:
            trial_id = self.rdb.get_trial_id_from_study_id_trial_number(self._row_id, number)
            self._trial_ids[number] = int(trial_id)
        return self._trial_ids[number]

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials, or those in one of the states. They are not copied: they must not be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def trial(self, number: int) -> FrozenTrial:
        """A trial as it is in the database now."""
        return self.rdb.get_trial(self.trial_id(number))

    def state(self, number: int) -> TrialState:
        """The state of a trial in the database now."""
        return private_api.trial_state(self.rdb, self.trial_id(number))

    def numbers(self, state: TrialState) -> set[int]:
        """The numbers of the trials in a state. Unlike `trials`, it does not read what they have reported."""
        return private_api.trial_numbers(self.rdb, self._row_id, state)

    def counts(self) -> Counter[TrialState]:
        """How many trials are in each state; read as `numbers`."""
        return private_api.trial_counts(self.rdb, self._row_id)

    def failed_trials(self) -> list[FrozenTrial]:
        """The trials that failed or were out of memory, without those that were stopped. A trial and its
        attempts count once, and not at all while it is tried again."""
        if not (failed := [trial for trial in self.trials(*COUNTED, TrialState.FAIL) if is_failed(trial)]):
            return []
        retried = {
            number for trial in self.trials() for number in trial.user_attrs.get(attributes.ATTEMPTS, [])
        }
        return [trial for trial in failed if trial.number not in retried]

    # ---- sharing the database

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time on this study; if it dies, the lock is released."""
        key = int.from_bytes(sha256(self.study.study_name.encode()).digest()[:8], signed=True)
        with database.lock(self.rdb.engine, key):
            yield

    def close(self) -> None:
        database.close(self.rdb)

    def with_retries(self, call: Callable[[], Result]) -> Result:
        """The result of a call to this storage, which is repeated while the database cannot be reached.
        AwayError: it could not be reached for `patience_seconds`."""

        def attempt() -> Result:
            try:
                return call()
            except UNREACHABLE as error:
                self.rdb.remove_session()
                raise AwayError(database.unreachable_message(self.rdb.url, error)) from error

        return database.retry(attempt, self.patience_seconds)

    # ---- a trial's life: claimed, alive, handed over, failed, retried

    def claim_trial(
        self, n_trials: int, make_sampler: Callable[[int], BaseSampler], queued_only: bool = False
    ) -> Trial | None:
        """A new or queued trial, now running, the queued ones and of these the retries first; None while
        `n_trials` are done or running. `make_sampler` gets the number of trials in the study."""
        with self.lock():
            self.fail_stale_trials()
            count = self.counts()
            claimed = sum(count[state] for state in (*COUNTED, TrialState.RUNNING))
            if claimed >= n_trials or (queued_only and not count[TrialState.WAITING]):
                return None
            self.study.sampler = make_sampler(count.total())
            trial = (self._claim_retry() if count[TrialState.WAITING] else None) or self.study.ask()
            self.record_heartbeat(trial.number)
            return trial

    def _claim_retry(self) -> Trial | None:
        """The first queued retry, now running. Others of a design may need the result of what was stopped."""
        for waiting in self.trials(TrialState.WAITING):
            trial_id = self.trial_id(waiting.number)
            if attributes.ATTEMPTS in waiting.user_attrs and self.rdb.set_trial_state_values(
                trial_id, TrialState.RUNNING
            ):
                return Trial(self.study, trial_id)
        return None

    def postpone(self, number: int) -> None:
        """Puts a running trial back into the queue, at its place."""
        with self.lock(), suppress(UpdateFinishedTrialError):
            self.rdb.set_trial_state_values(self.trial_id(number), TrialState.WAITING)

    def record_heartbeat(self, number: int) -> None:
        self.rdb.record_heartbeat(self.trial_id(number))

    def is_handed_over(self, number: int) -> bool:
        """Whether the job of a trial has begun, and records the heartbeats itself."""
        return attributes.PROCESS in self.rdb.get_trial_user_attrs(self.trial_id(number))

    def fail_stale_trials(self) -> None:
        """Fails the trials whose process died, and queues retries. Needs the lock: then a running trial
        without any heartbeat is of a process that died between claiming it and recording one. A trial
        whose job had not begun counts as stopped, not as crashed."""
        for trial_id in sorted(self.dead_trial_ids()):
            trial = self.rdb.get_trial(trial_id)
            began = attributes.PROCESS in trial.user_attrs
            failure = ("crash", PROCESS_DIED) if began else ("stopped", PROCESS_DIED_EARLY)
            self.fail_locked(trial.number, *failure)
        self._enqueue_retries()

    def dead_trial_ids(self) -> set[int]:
        """The running trials without any heartbeat or with an old one. A PostgreSQL server writes them by its
        own clock; none is old shortly after it started, as no process could record one before. In an SQLite
        file they are by the clock of each process: there they are old once this process has seen them
        unchanged for so long, which is why it has to look now and then."""
        rdb, grace_period = self.rdb, self.rdb.grace_period or 0
        without = private_api.running_without_heartbeat(rdb, self._row_id)
        if rdb.engine.name == "sqlite":
            silent = self._watch.silent_seconds(private_api.last_heartbeats(rdb, self._row_id))
            return without | {trial_id for trial_id, seconds in silent.items() if seconds > grace_period}
        if private_api.server_uptime_seconds(rdb.engine) < grace_period:
            return without
        return without | private_api.stale_trial_ids(rdb, self._row_id)

    def fail_trial(self, number: int, kind: str, reason: str) -> None:
        """Fails a trial and queues its retry, if it is to have one. A trial that has ended stays as it is."""
        with self.lock():
            self.fail_locked(number, kind, reason)

    def fail_locked(self, number: int, kind: str, reason: str) -> bool:
        """`fail_trial` for callers that hold the lock; False if the trial had ended already."""
        trial_id = self.trial_id(number)
        try:
            self.rdb.set_trial_user_attr(trial_id, attributes.FAILURE, kind)
            self.rdb.set_trial_user_attr(trial_id, attributes.REASON, hidden(reason)[:REASON_LENGTH])
            if not self.rdb.set_trial_state_values(trial_id, TrialState.FAIL):
                return False
        except UpdateFinishedTrialError:
            return False
        self._enqueue_retries()
        return True

    def _enqueue_retries(self) -> None:
        """Queues failed trials that are to be retried and are not queued yet; needs the lock. A process may
        have died between failing a trial and this. Parameters that a trial was enqueued with are kept even if
        it died before they were suggested."""
        if not (new := self.numbers(TrialState.FAIL) - self._settled):
            return
        trials = self.trials()
        attempts = [trial.user_attrs.get(attributes.ATTEMPTS) for trial in trials]
        retried = {numbers[-1] for numbers in attempts if numbers}
        for trial in (trials[number] for number in sorted(new - retried)):
            if not self._is_retried(trial, trials):
                continue
            known, parameters = trial.user_attrs, private_api.known_params(trial)
            kept = {name: known[name] for name in known if name == attributes.RUN_ID}
            kept[attributes.ATTEMPTS] = [*known.get(attributes.ATTEMPTS, []), trial.number]
            self.study.enqueue_trial(parameters, user_attrs=kept)
        self._settled.update(new)

    def _is_retried(self, failed: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        """A trial that was stopped always is, one that crashed while fewer than `retries` attempts before it
        crashed. Other failures would only fail again. `trials`: all of the study."""
        kind = failed.user_attrs.get(attributes.FAILURE)
        if kind != "crash":
            return bool(kind == "stopped")
        attempts = [trials[number] for number in failed.user_attrs.get(attributes.ATTEMPTS, [])]
        crashes = [trial for trial in attempts if trial.user_attrs.get(attributes.FAILURE) == "crash"]
        return len(crashes) < self.retries

    def new_abandoned_runs(self) -> list[str]:
        """MLflow runs of trials whose process died and that are not retried; each is returned once."""
        with self.lock():
            self.fail_stale_trials()
            if not (numbers := self.numbers(TrialState.FAIL) - self._examined):
                return []
            trials = self.trials()
            failed = [trials[n] for n in sorted(numbers) if not self._is_retried(trials[n], trials)]
            died = [t.user_attrs for t in failed if t.user_attrs.get(attributes.REASON) == PROCESS_DIED]
            runs = [known[attributes.RUN_ID] for known in died if attributes.RUN_ID in known]
            returned = self.study.user_attrs.get(attributes.ABANDONED_RUNS, [])
            if new := [run_id for run_id in runs if run_id not in returned]:
                self.study.set_user_attr(attributes.ABANDONED_RUNS, [*returned, *new])
            self._examined.update(numbers)
        return new

    # ---- duplicates

    def find_duplicate(self, config_hash: str) -> FrozenTrial | None:
        """The first trial with this configuration that completed or was pruned."""
        for trial in self.trials(*COUNTED):
            known = trial.user_attrs
            if known.get(attributes.CONFIG_HASH) == config_hash and attributes.FAILURE not in known:
                return trial
        return None

    def copy_result(self, source: FrozenTrial, trial: Trial) -> None:
        """Ends a trial with the result of one that has the same configuration."""
        if len(self.study.directions) == 1:
            for epoch, value in source.intermediate_values.items():
                trial.report(value, epoch)
        trial.set_user_attr(attributes.DUPLICATE_OF, source.number)
        for name in attributes.COPIED:
            if name in source.user_attrs:
                trial.set_user_attr(name, source.user_attrs[name])
        values = source.values if source.state == TrialState.COMPLETE else None
        self.study.tell(trial, values=values, state=source.state)


def is_failed(trial: FrozenTrial) -> bool:
    """Whether a trial that has ended failed or was out of memory; one that was stopped goes on."""
    kind = trial.user_attrs.get(attributes.FAILURE)
    return kind != "stopped" if trial.state == TrialState.FAIL else kind is not None


def open_study(
    url: str,
    name: str,
    directions: Sequence[Literal["minimize", "maximize"]] | None,
    pruner: BasePruner | None = None,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
    retries: int = 2,
    patience_seconds: float = 600,
) -> StudyStorage:
    """The study of that name, which is created if `directions` are given.
    InputError: the storage cannot be used, or does not have the study. AwayError: it cannot be reached."""
    with database.connect(url, heartbeat_seconds) as rdb:
        names = {study.study_name for study in rdb.get_all_studies()}
        if name not in names and directions is None:
            database.close(rdb)
            raise InputError(f"{shown(url)} has no study {name}{nearest(name, names)}")
        study = optuna.create_study(
            study_name=name,
            storage=private_api.TrialCache(rdb),
            directions=list(directions or ["maximize"]),
            pruner=pruner,
            load_if_exists=True,
        )
        if attributes.STUDY_ID not in study.user_attrs:
            study.set_user_attr(attributes.STUDY_ID, new_study_id())
    return StudyStorage(study, rdb, retries, patience_seconds)


def nearest(name: str, names: Iterable[str]) -> str:
    """The names that are most like this one, to end a sentence with that says that there is no such study."""
    names = sorted(names)
    containing = [other for other in names if name.lower() in other.lower()]
    like = list(dict.fromkeys([*containing, *get_close_matches(name, names, cutoff=0.5)]))[:3]
    if like:
        return f". Did you mean {' or '.join(like)}?"
    return "; pneumo study lists those that there are" if names else ", and no other"
