"""The table of running trials."""

from datetime import datetime, timedelta

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from pneumo.sweep import attributes
from pneumo.sweep.progress import StudyProgress, row, seconds_left
from pneumo.sweep.storage import open_study

NOW = datetime(2026, 1, 1, 12)


def trial(state=TrialState.RUNNING, seconds=40.0, reported=(), value=None, **known):
    """Its number is 0; it began `seconds` before NOW, and if it has ended, took as long."""
    done = state.is_finished()
    created = optuna.trial.create_trial(
        state=state,
        value=value,
        params={"optimizer.lr": 0.001},
        distributions={"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1)},
        user_attrs=known,
        intermediate_values=dict(enumerate(reported, start=1)),
    )
    created.number = 0
    created.datetime_start = NOW - timedelta(seconds=seconds)
    created.datetime_complete = NOW if done else None
    return created


def test_a_row_has_the_epoch_its_value_the_best_value_and_the_seconds_left():
    running = trial(reported=(0.6, 0.9, 0.8, 0.7), **{attributes.EPOCHS: 9})
    assert row(running, NOW, minimize=False) == ["#0", "lr 1e-3", "4/9", ".700", ".900", "50 s"]
    assert row(running, NOW, minimize=True)[4] == ".600"


def test_what_is_not_known_yet_is_empty():
    assert row(trial(), NOW, minimize=False)[2:] == ["starts", "", "", ""]
    assert row(trial(**{attributes.EPOCHS: 9}), NOW, minimize=False)[2:] == ["0/9", "", "", ""]
    resumed = trial(reported=(0.6,), **{attributes.EPOCHS: 9, attributes.ATTEMPTS: [3]})
    assert row(resumed, NOW, minimize=False)[5] == "", "its first epochs took no time of this attempt"


def test_the_study_s_time_left_is_that_of_the_trials_to_come_over_the_processes():
    ended = [trial(TrialState.COMPLETE, 100, value=0.9), trial(TrialState.PRUNED, 50)]
    running = [trial(seconds=30), trial(seconds=20)]
    assert seconds_left(running, ended, 10, NOW) == pytest.approx((75 * 8 - 50) / 2)
    assert seconds_left(running, [], 10, NOW) == 0
    copied = trial(TrialState.COMPLETE, 0, value=0.9, **{attributes.DUPLICATE_OF: 0})
    assert seconds_left(running, [*ended, copied], 10, NOW) == pytest.approx((75 * 7 - 50) / 2)


def test_trials_of_all_processes_are_shown_and_stay_while_the_database_is_away(tmp_path, monkeypatch):
    storage = open_study(f"sqlite:///{tmp_path / 'study.db'}", "s", ["maximize"])
    for value in (0.7, 0.9):
        storage.study.tell(storage.study.ask(), value)
    elsewhere = open_study(f"sqlite:///{tmp_path / 'study.db'}", "s", None).study.ask()
    elsewhere.set_user_attr(attributes.EPOCHS, 5)
    elsewhere.report(0.8, 1)
    progress = StudyProgress(storage, 20, "val/auroc")
    rows, line = progress.rows()
    assert [cells[:5] for cells in rows] == [["#2", "", "1/5", ".800", ".800"]]
    assert line.startswith("2 of 20 done · best #1 .900")

    def away(*states):
        raise StorageInternalError("database is locked")

    monkeypatch.setattr(type(storage), "trials", away)
    assert progress.rows() == (rows, line)
