"""The studies of a database: how far each has come, and its best value."""

from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from pneumo.sweep import attributes, database, private_api
from pneumo.sweep.database import HEARTBEAT_SECONDS, MISSED_HEARTBEATS
from pneumo.sweep.settings import HEARTBEAT
from pneumo.sweep.storage import COUNTED
from pneumo.sweep.summary import best_first


@dataclass(frozen=True)
class ListedStudy:
    name: str
    started: datetime | None  # of its first trial, with the time zone
    done: int  # trials that completed or were pruned
    n_trials: int | None  # how many it is to have; None of a study of another program
    running: int  # trials whose process is alive
    objective: tuple[str, ...]
    best: float | None  # None: no trial has completed, or it has a design or several objectives

    @property
    def state(self) -> str:
        """E.g. `12 of 20 done, 2 running`."""
        done = f"{self.done} of {self.n_trials} done" if self.n_trials is not None else f"{self.done} done"
        return f"{done}, {self.running} running" if self.running else done


def studies(url: str) -> list[ListedStudy]:
    """The latest first. InputError: the address cannot be used. AwayError: the database cannot be reached."""
    with database.connect(url, HEARTBEAT_SECONDS) as rdb:
        found = [listed(rdb, study.study_name) for study in rdb.get_all_studies()]
        database.close(rdb)
    begun = [study for study in found if study.started]
    return [
        *sorted(begun, key=lambda study: study.started or datetime.max, reverse=True),
        *(study for study in found if not study.started),
    ]


def listed(rdb: RDBStorage, name: str) -> ListedStudy:
    """The study of this name in a database."""
    study = optuna.load_study(study_name=name, storage=rdb)
    trials, known = study.get_trials(deepcopy=False), study.user_attrs
    row_id = rdb.get_study_id_from_name(name)
    heartbeat = known.get(attributes.IDENTITY, {}).get("heartbeat", {})
    rdb.grace_period = MISSED_HEARTBEATS * heartbeat.get(HEARTBEAT, HEARTBEAT_SECONDS)
    dead = private_api.running_without_heartbeat(rdb, row_id) | private_api.stale_trial_ids(rdb, row_id)
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    has_best = len(study.directions) == 1 and known.get(attributes.DESIGN) is None
    best = best_first(study)[:1] if has_best else []
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    return ListedStudy(
        name=name,
        started=min(starts).astimezone() if starts else None,
        done=sum(trial.state in COUNTED for trial in trials),
        n_trials=known.get(attributes.N_TRIALS),
        running=running - len(dead),
        objective=tuple(known.get(attributes.OBJECTIVE, [])),
        best=best[0].value if best else None,
    )
