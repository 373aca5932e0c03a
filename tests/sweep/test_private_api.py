"""Each private function that pneumo/sweep/private_api.py uses still exists and does what is needed of it."""

import subprocess
import sys
from datetime import datetime, timedelta

import optuna
import pytest
from conftest import ROOT
from hydra.core import utils
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_optuna_sweeper import _impl
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text

from pneumo.sweep import private_api
from pneumo.sweep.database import check_address
from pneumo.sweep.storage import open_study

PRIVATE = [
    (RDBStorage, "_get_stale_trial_ids", "stale_trial_ids"),
    (_impl, "create_params_from_overrides", "parse_distribution"),
    (utils.JobReturn(), "_return_value", "job_error"),
]


@pytest.fixture
def storage(tmp_path):
    return open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=1)


@pytest.mark.parametrize(("owner", "name", "used_by"), PRIVATE)
def test_the_private_functions_still_exist(owner, name, used_by):
    assert hasattr(owner, name), f"{name} has gone from {owner}: private_api.{used_by} needs another way"


def test_no_other_file_of_the_sweep_uses_private_names_of_a_library():
    command = [sys.executable, "-m", "ruff", "check", "--select", "SLF001", "--output-format", "concise"]
    done = subprocess.run([*command, ROOT / "pneumo" / "sweep"], capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if "SLF001" in line]
    assert len(found) == 2, done.stdout + done.stderr
    assert all("private_api.py" in line for line in found), done.stdout


def test_optuna_keeps_enqueued_parameters_before_they_are_suggested(storage):
    storage.study.enqueue_trial({"x": 0.25})
    storage.study.ask()
    storage.study.ask()
    enqueued, sampled = storage.trials()
    assert (private_api.fixed_params(enqueued), enqueued.params) == ({"x": 0.25}, {})
    assert private_api.fixed_params(sampled) is None


def test_heartbeats_are_in_the_table_and_old_ones_are_stale(storage):
    study_id = storage.rdb.get_study_id_from_name("s")
    silent, stale, alive = (storage.trial_id(storage.study.ask().number) for _ in range(3))
    for trial_id in (stale, alive):
        storage.rdb.record_heartbeat(trial_id)
    with storage.rdb.engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_heartbeats SET heartbeat = :then WHERE trial_id = :trial"),
            {"then": str(datetime.now() - timedelta(days=2)), "trial": stale},
        )
    assert private_api.last_heartbeats(storage.rdb, study_id).keys() == {stale, alive}
    assert private_api.stale_trial_ids(storage.rdb, study_id) == {stale}
    assert silent not in (stale, alive)


def test_hydras_grammar_is_parsed_and_a_single_value_is_no_distribution():
    assert private_api.parse_distribution("lr", "interval(0, 1)") == FloatDistribution(0, 1)
    assert private_api.parse_distribution("lr", "0.5") is None


def test_the_error_of_a_failed_job_is_returned_without_printing_it(capfd):
    error = ValueError("boom")
    assert private_api.job_error(JobReturn(status=JobStatus.FAILED, _return_value=error)) is error
    assert private_api.job_error(JobReturn(status=JobStatus.COMPLETED, _return_value=0.5)) is None
    assert capfd.readouterr() == ("", "")


def test_postgresql_has_advisory_locks_and_tells_its_uptime(database):
    address = check_address(database)
    one, other = create_engine(address), create_engine(address)
    assert private_api.server_uptime_seconds(one) > 0
    with private_api.advisory_lock(one, 7), other.connect() as connection:
        assert not connection.execute(text("SELECT pg_try_advisory_lock(7)")).scalar_one()
    with other.connect() as connection:
        assert connection.execute(text("SELECT pg_try_advisory_lock(7)")).scalar_one()
    for engine in (one, other):
        engine.dispose()


def test_optuna_still_suggests_from_the_distributions_that_a_database_holds():
    study = optuna.create_study()
    trial = study.ask()
    trial.suggest_float("x", 1e-4, 1e-1, log=True)
    assert trial.distributions == {"x": FloatDistribution(1e-4, 1e-1, log=True)}
