"""Each private function that pneumo/sweep/private_api.py uses still exists and does what is needed of it."""

import random
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
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, text

from pneumo.sweep import private_api
from pneumo.sweep.database import check_address
from pneumo.sweep.storage import open_study

PRIVATE = [
    (RDBStorage, "_get_stale_trial_ids", "stale_trial_ids"),
    (RDBStorage, "_get_trials", "TrialCache"),
    (_CachedStorage, "_add_trials_to_cache", "TrialCache"),
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
    assert found, done.stdout + done.stderr
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
    assert private_api.running_without_heartbeat(storage.rdb, study_id) == {silent}
    assert private_api.stale_trial_ids(storage.rdb, study_id) == {stale}
    assert alive not in (silent, stale)


def test_states_and_counts_are_those_of_the_trials(storage):
    study, study_id = storage.study, storage.rdb.get_study_id_from_name("s")
    assert private_api.trial_counts(storage.rdb, study_id).total() == 0
    ended, _, failed = (study.ask() for _ in range(3))
    study.tell(ended, 0.5)
    study.tell(failed, state=TrialState.FAIL)
    study.enqueue_trial({"x": 0.25})
    once = {"COMPLETE": {0}, "RUNNING": {1}, "FAIL": {2}, "WAITING": {3}, "PRUNED": set()}
    for name, numbers in once.items():
        state = TrialState[name]
        assert private_api.trial_numbers(storage.rdb, study_id, state) == numbers
        assert private_api.trial_counts(storage.rdb, study_id)[state] == len(numbers)
        for number in numbers:
            assert private_api.trial_state(storage.rdb, storage.trial_id(number)) == state


ASKED = [None, (TrialState.WAITING,), (TrialState.COMPLETE, TrialState.PRUNED), (TrialState.RUNNING,)]


@pytest.mark.parametrize("seed", range(3))
def test_the_cache_of_trials_finds_what_optunas_own_finds_while_another_process_works(tmp_path, seed):
    url, drawn = f"sqlite:///{tmp_path}/study.db", random.Random(seed)
    stock, ours = open_study(url, "s", ["maximize"]), open_study(url, "s", ["maximize"]).study
    other, study_id = stock.study, stock.rdb.get_study_id_from_name("s")
    running: list[optuna.Trial] = []

    def ask():
        running.append(other.ask())
        running[-1].suggest_float("x", 0, 1)

    def tell():
        if running:
            trial = running.pop(drawn.randrange(len(running)))
            trial.report(drawn.random(), 1)
            ended = drawn.choice(list(TrialState)[1:4])
            other.tell(trial, drawn.random() if ended == TrialState.COMPLETE else None, ended)

    for _ in range(50):
        drawn.choice(
            [ask, tell, lambda: other.enqueue_trial({"x": drawn.random()}), ours.ask, lambda: None]
        )()
        states = drawn.choice(ASKED)
        assert ours.get_trials(states=states) == stock.rdb.get_all_trials(study_id, states=states)


def test_the_cache_reads_no_reports_of_running_trials_where_others_are_asked_for(storage):
    storage.study.tell(storage.study.ask(), 0.5)
    running = storage.study.ask()
    storage.trials()
    read: list[str] = []
    event.listen(storage.rdb.engine, "before_cursor_execute", lambda *given: read.append(given[2]))
    running.report(0.5, 1)
    read.clear()
    assert len(storage.trials(TrialState.COMPLETE)) == 1
    assert len(read) == 1, "the states alone"
    assert storage.trials(TrialState.RUNNING)[0].intermediate_values == {1: 0.5}


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


def test_optunas_grpc_proxy_still_passes_on_no_heartbeats():
    assert not hasattr(optuna.storages.GrpcStorageProxy, "record_heartbeat"), (
        "storage=grpc:// could be allowed"
    )
