"""The study in its database: who takes which trial, and what became of it. Several processes may share it;
whatever must not happen twice happens in their turn, one after the other."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pneumo.display.address import apart, hidden, parsed, shown
from pneumo.errors import AwayError, InputError
from pneumo.runs.identity import Images, configuration, differing_aspects, new_study_id

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
MISSED_HEARTBEATS = 3
DIED = "its process died"
NEVER_BEGAN = "its process died before the trial began"
PROCESS = "process"  # attribute of a trial: who carries it out, once its job has begun
STUDY_ID = "study_id"  # attribute of a study: 32 hex digits of its own, whatever its name
Result = TypeVar("Result")


AWAY = (StorageInternalError, OperationalError, ConnectionError, AwayError)

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used")


@dataclass(frozen=True)
class StudyStorage:
    study: optuna.Study
    storage: RDBStorage
    retries: int
    patience_seconds: float  # how long a storage that is away is waited for

    @property
    def study_id(self) -> str:
        return str(self.study.user_attrs[STUDY_ID])

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Alone among all processes on this study; a process that dies gives its turn up."""
        if self.storage.engine.name == "sqlite":
            with FileLock(f"{self.storage.engine.url.database}.lock"):
                yield
            return
        key = int.from_bytes(sha256(self.study.study_name.encode()).digest()[:8], signed=True)
        with self.storage.engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})

    def close(self) -> None:
        """Gives its connections back; each StudyStorage has its own."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def steadily(self, call: Callable[[], Result]) -> Result:
        """As `patiently`, on this storage."""

        def told() -> Result:
            try:
                return call()
            except AWAY as error:
                self.storage.remove_session()
                raise AwayError(away(self.storage.url, error)) from error

        return with_retries(told, self.patience_seconds)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def take(
        self, n_trials: int, sampler: Callable[[int], BaseSampler], queued_only: bool = False
    ) -> Trial | None:
        """The next trial, once its turn comes; None while all there shall be are done or under way.
        `sampler` makes one for the number of trials there are."""
        with self.turn():
            self.reap()
            claimed = len(self.trials(*COUNTED, TrialState.RUNNING))
            if claimed >= n_trials or (queued_only and not self.trials(TrialState.WAITING)):
                return None
            self.study.sampler = sampler(len(self.trials()))
            trial = self.study.ask()
            self.storage.record_heartbeat(trial._trial_id)
            return trial

    def given_up(self) -> list[str]:
        """MLflow runs of trials whose process died and that are not tried again; each is named once."""
        with self.turn():
            self.reap()
            named = self.study.user_attrs.get("given_up", [])
            found = [
                trial.user_attrs["run_id"]
                for trial in self.trials(TrialState.FAIL)
                if trial.user_attrs.get("reason") == DIED
                and not self.is_tried_again(trial)
                and "run_id" in trial.user_attrs
                and trial.user_attrs["run_id"] not in named
            ]
            if found:
                self.study.set_user_attr("given_up", [*named, *found])
        return found

    def equal(self, config_hash: str) -> FrozenTrial | None:
        """The first trial that had this configuration and came to a result of its own."""
        for trial in self.trials(*COUNTED):
            if trial.user_attrs.get("config_hash") == config_hash and "failure" not in trial.user_attrs:
                return trial
        return None

    def copy(self, done: FrozenTrial, trial: Trial) -> None:
        """Gives a trial the result of an equal one."""
        if len(self.study.directions) == 1:
            for epoch, value in done.intermediate_values.items():
                trial.report(value, epoch)
        trial.set_user_attr("duplicate_of", done.number)
        for name in ("config_hash", "effective_batch", "figures", "run_id", "overrides", "epochs"):
            if name in done.user_attrs:
                trial.set_user_attr(name, done.user_attrs[name])
        values = done.values if done.state == TrialState.COMPLETE else None
        self.study.tell(trial, values=values, state=done.state)

    def reap(self) -> None:
        """Trials whose process died are failed and queued again. In one's turn: then a running trial
        without any heartbeat is of a process that died between the two. One that its job had not begun did
        not crash."""
        beating = self._with_heartbeat()
        stale = self._stale()
        for trial in self.trials(TrialState.RUNNING):
            if trial._trial_id in stale or trial._trial_id not in beating:
                began = PROCESS in trial.user_attrs
                self.end_as_failed(trial._trial_id, *(("crash", DIED) if began else ("stopped", NEVER_BEGAN)))
        self.queue_again()

    def fail(self, trial_id: int, kind: str, reason: str) -> None:
        """Ends a trial as failed and queues it again, a crash so often. Nothing where it has ended
        already."""
        with self.turn():
            self.end_as_failed(trial_id, kind, reason)

    def end_as_failed(self, trial_id: int, kind: str, reason: str) -> bool:
        """As `fail`, in one's turn; whether it had not ended already."""
        try:
            self.storage.set_trial_user_attr(trial_id, "failure", kind)
            self.storage.set_trial_user_attr(trial_id, "reason", hidden(reason)[:1000])
            if not self.storage.set_trial_state_values(trial_id, TrialState.FAIL):
                return False
        except UpdateFinishedTrialError:
            return False
        self.queue_again()
        return True

    def queue_again(self) -> None:
        """Failed trials that are tried again and are not queued yet, perhaps because a process died between
        the two. In one's turn. What had been queued keeps its parameters although it was not yet asked
        for them."""
        trials = self.trials()
        queued = {trial.user_attrs["attempts"][-1] for trial in trials if trial.user_attrs.get("attempts")}
        for trial in trials:
            if trial.state != TrialState.FAIL or trial.number in queued or not self.is_tried_again(trial):
                continue
            kept = {name: trial.user_attrs[name] for name in ("run_id",) if name in trial.user_attrs}
            attempts = [*trial.user_attrs.get("attempts", []), trial.number]
            parameters = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            self.study.enqueue_trial(parameters, user_attrs={**kept, "attempts": attempts})

    def is_tried_again(self, failed: FrozenTrial) -> bool:
        """One that was stopped always is, one that crashed until there have been `retries` after the first;
        stops in between do not count."""
        if failed.user_attrs.get("failure") != "crash":
            return bool(failed.user_attrs.get("failure") == "stopped")
        trials = self.trials()
        attempts = [trials[number] for number in failed.user_attrs.get("attempts", [])]
        crashes = [trial for trial in attempts if trial.user_attrs.get("failure") == "crash"]
        return len(crashes) < self.retries

    def prepare(
        self,
        queue: Sequence[Mapping[str, Any]],
        identity: Mapping[str, Any],
        plan: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> None:
        """A new study's first trials, and what is to be known of it. `defaults`: of settings that did not
        exist yet when it was begun. InputError: it is there already, as another one."""
        with self.turn():
            there = self.study.user_attrs.get("identity")
            if there is not None:
                missing = {name: defaults[name] for name in identity["settings"] if name in defaults}
                there = {**there, "settings": {**missing, **configuration(there["settings"])}}
            if there is None:
                for values in queue[len(self.trials()) :]:  # a process may have died in the middle of it
                    self.study.enqueue_trial(dict(values))
                self.study.set_user_attr("identity", dict(identity))
            if not (there and differences(there, identity)):
                for name, value in plan.items():
                    self.study.set_user_attr(name, value)
        if there is not None and (differing := differences(there, identity)):
            raise InputError(
                f"The study {self.study.study_name} was begun otherwise; study=NAME begins another:\n"
                + "\n".join(f"  {line}" for line in differing)
            )

    def knows_its_data(self) -> bool:
        """Whether a trial of the study has had its data ready."""
        return not {"data", "split_hash"}.isdisjoint(self.study.user_attrs)

    def refuse_other_data(self, images: Images, split_hash: str) -> None:
        """InputError: a trial before had other images, labels, lesions, patients or another split; of studies
        of before, which kept the split alone, another split."""
        now = images.aspects
        with self.turn():
            known = self.study.user_attrs
            if then := known.get("data"):
                differing = differing_aspects(then, now)
            else:
                differing = [] if known.get("split_hash", split_hash) == split_hash else ["the split"]
                if not differing:
                    self.study.set_user_attr("split_hash", split_hash)
                    self.study.set_user_attr("data", now)
        if differing:
            raise InputError(
                f"The study {self.study.study_name} was begun on other data than there are now, "
                f"{', '.join(differing)} differ: bring them back, or study=NAME begins another"
            )

    def _stale(self) -> set[int]:
        """None right after the server was away: nobody could say then that a trial was alive."""
        if self.storage.engine.name == "postgresql":
            query = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
            with self.storage.engine.connect() as connection:
                up_seconds = float(connection.execute(query).scalar_one())
            if self.storage.grace_period is not None and up_seconds < self.storage.grace_period:
                return set()
        return set(self.storage._get_stale_trial_ids(self.study._study_id))

    def _with_heartbeat(self) -> set[int]:
        query = text(
            "SELECT h.trial_id FROM trial_heartbeats h JOIN trials t ON t.trial_id = h.trial_id "
            "WHERE t.study_id = :study"
        )
        with self.storage.engine.connect() as connection:
            return {row[0] for row in connection.execute(query, {"study": self.study._study_id})}


def with_retries(call: Callable[[], Result], seconds: float) -> Result:
    """The call again and again, ever more slowly, while the storage is away. AwayError: for too long."""
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            return call()
        except AwayError:
            if time.monotonic() - began + pause > seconds:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 30)


def open_study(
    url: str,
    name: str,
    directions: Sequence[Literal["minimize", "maximize"]] | None,
    pruner: BasePruner | None = None,
    heartbeat_seconds: int = 10,
    retries: int = 2,
    patience_seconds: float = 600,
) -> StudyStorage:
    """The study of that name, made where `directions` are given. InputError: the storage cannot be used,
    the study is not there or has other objectives."""
    address, secret = apart(usable(url))
    is_file = address.drivername == "sqlite"
    try:
        with making(address, secret):
            storage = RDBStorage(
                address.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": {"timeout": 60, **secret}}
                if is_file
                else {"connect_args": secret, "pool_pre_ping": True},
                heartbeat_interval=heartbeat_seconds,
                grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
            )
            names = {study.study_name for study in storage.get_all_studies()}
            if name not in names and directions is None:
                storage.remove_session()
                storage.engine.dispose()
                raise InputError(
                    f"{shown(url)} has no study {name}"
                    + (f"; it has {', '.join(sorted(names))}" if names else "")
                )
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                directions=list(directions or ["maximize"]),
                pruner=pruner,
                load_if_exists=True,
            )
            if STUDY_ID not in study.user_attrs:
                study.set_user_attr(STUDY_ID, new_study_id())
    except (ImportError, NoSuchModuleError) as error:
        raise InputError("A PostgreSQL storage needs its driver: pip install 'pneumo[postgresql]'") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise AwayError(away(url, error)) from error
    return StudyStorage(study, storage, retries, patience_seconds)


@contextmanager
def making(address: URL, secret: Mapping[str, str]) -> Iterator[None]:
    """Two processes must not make the tables at once."""
    if address.drivername == "sqlite":
        with FileLock(f"{address.database}.lock"):
            yield
        return
    with create_engine(address, connect_args=dict(secret), poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(7236)"))
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(7236)"))


def usable(address: str) -> URL:
    """InputError: neither SQLite nor PostgreSQL, a file in a folder that is not there, or no address."""
    kind = address.split(":", 1)[0]
    if kind == "sqlite":
        url = parsed(address)
        folder = Path(url.database or "").parent
        if not folder.is_dir():
            raise InputError(f"storage={shown(address)}: the folder {folder} is not there")
        return url
    if kind.split("+")[0] not in ("postgresql", "postgres"):
        raise InputError(f"storage must begin with sqlite:/// or postgresql://, got {shown(address)!r}")
    try:
        return parsed(address).set(drivername="postgresql+psycopg")
    except InputError as error:
        raise InputError(f"storage={shown(address)}: {error}") from None


def away(url: str, error: Exception) -> str:
    if isinstance(error, AwayError):
        return str(error)
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return f"The study's storage {shown(url)} cannot be reached: {hidden(first_line(cause))}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """then and now are nested one level: topic -> name -> value."""
    return [
        f"{name}: then {then.get(topic, {}).get(name, 'not there')}, now {now[topic].get(name, 'not there')}"
        for topic in now
        for name in sorted(then.get(topic, {}).keys() | now[topic].keys())
        if then.get(topic, {}).get(name) != now[topic].get(name)
    ]
