"""`pneumo study` without a name: the studies of a database, and how far each has come."""

import json
from datetime import datetime

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from pneumo.cli.app import invoke
from pneumo.errors import InputError
from pneumo.sweep import attributes
from pneumo.sweep.storage import open_study

COMPLETE, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING
URL = "sqlite:///study.db"


def study(name, *trials, day=1, **known):
    """A study in study.db with trials of these states and values."""
    storage = open_study(URL, name, ["maximize"])
    known = {attributes.N_TRIALS: 20, attributes.OBJECTIVE: ["val/auroc"], attributes.DESIGN: None, **known}
    for key, value in known.items():
        storage.study.set_user_attr(key, value)
    for hour, (state, value) in enumerate(trials):
        trial = create_trial(
            params={"lr": 0.1}, distributions={"lr": FloatDistribution(0, 1)}, state=state, value=value
        )
        trial.datetime_start = datetime(2024, 5, day, hour)
        storage.study.add_trial(trial)
    return storage


@pytest.fixture
def three(workdir):
    study("first", (COMPLETE, 0.9), (COMPLETE, 0.95), (PRUNED, None), (TrialState.FAIL, None), day=3)
    study("two words", (COMPLETE, 0.8), day=7, **{attributes.DESIGN: {"arms": {}}})
    study("new")


def rows(capsys):
    capsys.readouterr()
    invoke(["study", "--json"])
    return json.loads(capsys.readouterr().out)["studies"]


def test_the_latest_study_comes_first_with_its_state_best_value_objective_and_command(three, capsys):
    designed, first, new = rows(capsys)
    assert [designed["name"], first["name"], new["name"]] == ["two words", "first", "new"]
    assert (first["done"], first["n_trials"], first["running"]) == (3, 20, 0)
    assert (first["best"], first["objective"]) == (0.95, ["val/auroc"])
    assert first["started"].startswith("2024-05-03T00:00:00")
    assert designed["best"] is None  # its trials are compared, none is chosen
    assert designed["command"] == "pneumo study 'two words'"
    assert (new["started"], new["best"], new["done"]) == (None, None, 0)


def test_the_table_shows_the_same(three, capsys):
    invoke(["study"])
    heading, designed, first, new = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert heading.split() == ["study", "when", "state", "best", "objective", "see", "it", "with"]
    assert first.startswith("first ")
    for cell in ("03 May 2024", "3 of 20 done", ".950", "val/auroc", "pneumo study first"):
        assert cell in first
    assert "1 of 20 done" in designed
    assert "0 of 20 done" in new


def test_a_running_trial_counts_while_its_heartbeat_is_fresh(workdir, capsys):
    storage = study("s", (COMPLETE, 0.9))
    claimed = storage.claim_trial(20, lambda count: optuna.samplers.RandomSampler(0))
    assert claimed is not None
    (row,) = rows(capsys)
    assert (row["done"], row["running"]) == (1, 1)
    storage.fail_trial(claimed.number, "stopped", "by hand")
    (row,) = rows(capsys)
    assert row["running"] == 0


def test_a_running_trial_counts_by_the_heartbeat_that_its_study_began_with(workdir, capsys):
    storage = open_study(URL, "s", ["maximize"], heartbeat_seconds=60)
    storage.study.set_user_attr(attributes.IDENTITY, {"heartbeat": {"hydra.sweeper.heartbeat_seconds": 60}})
    assert storage.claim_trial(20, lambda count: optuna.samplers.RandomSampler(0)) is not None
    for minutes, running in ((2, 1), (4, 0)):
        with storage.rdb.engine.begin() as connection:
            connection.execute(
                text(f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '-{minutes} minutes')")
            )
        (row,) = rows(capsys)
        assert row["running"] == running


def test_no_study_is_said_and_no_database_is_made(workdir, capsys):
    with pytest.raises(InputError, match=r"There is no study\.db in "):
        invoke(["study"])
    assert not list(workdir.iterdir())
    open_study(URL, "s", ["maximize"]).close()
    optuna.delete_study(study_name="s", storage=URL)
    invoke(["study"])
    assert capsys.readouterr().out == f"There is no study in sqlite:///{workdir}/study.db\n"
