"""The table of running trials that the terminal shows, read from the study's database."""

from collections.abc import Sequence
from datetime import datetime
from statistics import mean

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import decimal, duration
from pneumo.sweep import attributes, labels
from pneumo.sweep.database import UNREACHABLE
from pneumo.sweep.storage import COUNTED, StudyStorage
from pneumo.sweep.summary import best_first

Rows = tuple[list[list[str]], str]


class StudyProgress:
    """The running trials of all processes of a study of `n_trials` trials."""

    def __init__(self, storage: StudyStorage, n_trials: int, objective: str):
        self.columns = ("trial", "parameters", "epoch", objective, "best", "left")
        self._storage, self._n_trials = storage, n_trials
        self._last: Rows = ([], "")

    def rows(self) -> Rows:
        """A row of text for each running trial, and a line on the study; while the database cannot be
        reached, as before."""
        try:
            self._last = self._read(datetime.now())
        except UNREACHABLE:
            self._storage.rdb.remove_session()
        return self._last

    def _read(self, now: datetime) -> Rows:
        study = self._storage.study
        minimize = study.directions[0] == StudyDirection.MINIMIZE
        running = self._storage.trials(TrialState.RUNNING)
        rows = [row(trial, now, minimize) for trial in running]
        ended = self._storage.trials(*COUNTED)
        texts = [f"{len(ended)} of {self._n_trials} done"]
        if best := best_first(study):
            texts.append(f"best #{best[0].number} {labels.value(best[0])}")
        if left := seconds_left(running, ended, self._n_trials, now):
            texts.append(f"about {duration(left)} left")
        return rows, " · ".join(texts)


def row(trial: FrozenTrial, now: datetime, minimize: bool) -> list[str]:
    """Number, parameters, epoch, value at that epoch, best value so far, time left; empty what is unknown."""
    n_epochs, values = trial.user_attrs.get(attributes.EPOCHS), trial.intermediate_values
    name, parameters = f"#{trial.number}", labels.parameters(trial.params)
    if n_epochs is None:
        return [name, parameters, "starts", "", "", ""]
    epoch = trial.last_step or 0
    if not epoch:
        return [name, parameters, f"0/{n_epochs}", "", "", ""]
    best = min(values.values()) if minimize else max(values.values())
    left = (
        ""
        if attributes.ATTEMPTS in trial.user_attrs
        else duration(elapsed(trial, now) / epoch * max(0, n_epochs - epoch))
    )
    return [name, parameters, f"{epoch}/{n_epochs}", decimal(values[epoch]), decimal(best), left]


def elapsed(trial: FrozenTrial, now: datetime) -> float:
    """Seconds since a trial began."""
    return (now - trial.datetime_start).total_seconds() if trial.datetime_start else 0.0


def seconds_left(
    running: Sequence[FrozenTrial], ended: Sequence[FrozenTrial], n_trials: int, now: datetime
) -> float:
    """Seconds to the end of the study if each trial still to be done takes the mean of those that have ended,
    in as many processes as have a trial now; 0 if that cannot be told."""
    trained = [labels.seconds(t) for t in ended if attributes.DUPLICATE_OF not in t.user_attrs]
    if not trained or not running:
        return 0.0
    begun = sum(elapsed(trial, now) for trial in running)
    return max(0.0, (mean(trained) * (n_trials - len(ended)) - begun) / len(running))
