"""Claiming, failing and retrying trials, on a real database."""

import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from claims import claim, make_sampler, states, storage
from optuna.trial import TrialState
from sqlalchemy import event, text

from pneumo.errors import InputError
from pneumo.sweep import private_api
from pneumo.sweep.design.ablation import build_design
from pneumo.sweep.heartbeat import heartbeats
from pneumo.sweep.storage import open_study
from pneumo.sweep.study_identity import begin_or_continue, differences
from pneumo.sweep.trial import TrialResult, tell_locked

__all__ = ["storage"]  # a fixture


def test_processes_together_claim_no_more_than_n_trials(storage, tmp_path):
    other = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=60)
    claimed = []

    def claim_all(own):
        while (trial := own.claim_trial(7, make_sampler)) is not None:
            claimed.append(trial.number)

    threads = [threading.Thread(target=claim_all, args=(own,)) for own in (storage, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(7))


def test_a_trial_without_recent_heartbeat_fails_and_is_retried(storage):
    trial = claim(storage)
    storage.rdb.set_trial_user_attr(storage.trial_id(trial.number), "run_id", "abc")
    until = time.monotonic() + 20
    while "WAITING" not in states(storage) and time.monotonic() < until:
        storage.new_abandoned_runs()
    again = claim(storage)
    assert states(storage) == ["FAIL", "RUNNING"]
    frozen = storage.trials()[again.number]
    assert frozen.params == storage.trials()[0].params
    assert frozen.user_attrs == {"run_id": "abc", "attempts": [0]}


def test_a_trial_with_heartbeats_keeps_running(storage):
    trial = claim(storage)
    beats = []
    record = storage.rdb.record_heartbeat
    storage.rdb.record_heartbeat = lambda trial_id: (record(trial_id), beats.append(trial_id))
    with heartbeats(storage, [trial.number]):
        until = time.monotonic() + 20
        while len(beats) < 5 and time.monotonic() < until:
            storage.new_abandoned_runs()
    assert states(storage) == ["RUNNING"]


def test_a_trial_that_never_had_a_heartbeat_fails_too(storage):
    storage.study.ask()  # and its process died before it recorded a heartbeat
    assert claim(storage).number == 1
    assert states(storage)[0] == "FAIL"


def test_a_trial_is_retried_twice_after_crashes(storage):
    for _ in range(3):
        storage.fail_trial(claim(storage).number, "crash", "boom")
    assert states(storage) == ["FAIL", "FAIL", "FAIL"]


def test_a_trial_and_its_attempts_are_one_failure_and_none_while_it_is_tried_again(storage):
    seen = []
    for kind in ("crash", "stopped", "crash", "crash"):  # of one trial, as retries are claimed first
        storage.fail_trial(claim(storage).number, kind, "why")
        seen.append([trial.number for trial in storage.failed_trials()])
    assert states(storage) == ["FAIL"] * 4
    assert seen == [[], [], [], [3]]


def test_a_trial_that_was_out_of_memory_is_a_failure_and_a_pruned_one_is_none(storage):
    for kind in ("pruned", "out of memory", "non-finite"):
        state = "FAIL" if kind == "non-finite" else "PRUNED"
        tell_locked(storage, claim(storage).number, TrialResult(state, kind=kind, reason="why"))
    tell_locked(storage, claim(storage).number, TrialResult("COMPLETE", values=[0.5]))
    assert [trial.number for trial in storage.failed_trials()] == [1, 2]


def test_stops_do_not_count_as_retries_of_a_crash(storage):
    for kind in ["stopped"] * 10 + ["crash", "stopped", "crash", "stopped"]:
        storage.fail_trial(claim(storage).number, kind, "why")
        assert states(storage)[-1] == "WAITING", kind
    storage.fail_trial(claim(storage).number, "crash", "why")
    assert set(states(storage)) == {"FAIL"}, "the third crash, after two retries"


def test_a_run_is_abandoned_only_after_all_retries_crashed(storage):
    for kind in ("stopped", "stopped", "crash"):
        trial = claim(storage)
        trial.set_user_attr("run_id", "abc")
        storage.fail_trial(trial.number, kind, "its process died")
    assert storage.new_abandoned_runs() == []


def test_a_trial_is_retried_once_if_its_process_died_between_failing_and_queueing_it(storage):
    storage.study.enqueue_trial({"x": 0.25})
    trial = claim(storage)
    storage.rdb.set_trial_user_attr(storage.trial_id(trial.number), "failure", "crash")
    storage.rdb.set_trial_state_values(storage.trial_id(trial.number), TrialState.FAIL)  # and died here
    assert claim(storage).params == {"x": 0.25}
    assert claim(storage).params != {"x": 0.25}
    assert states(storage) == ["FAIL", "RUNNING", "RUNNING"]


def test_a_claim_asks_the_database_no_more_when_many_trials_have_crashed_for_good(storage):
    asked = []
    event.listen(storage.rdb.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    costs = []
    for n_crashing in (1, 8):
        for _ in range(3 * n_crashing):  # each trial three times, then it is left
            storage.fail_trial(claim(storage).number, "crash", "boom")
        storage.new_abandoned_runs()
        asked.clear()
        trial = claim(storage)
        storage.new_abandoned_runs()
        costs.append(len(asked))
        tell_locked(storage, trial.number, TrialResult("COMPLETE", values=[0.5]))
    assert costs[0] == costs[1]


def test_a_worker_keeps_one_connection_of_the_server_between_claims(database):
    shared = open_study(database, "s", ["maximize"])
    trial = claim(shared)
    with heartbeats(shared, [trial.number]):
        tell_locked(shared, trial.number, TrialResult("COMPLETE", values=[0.5]))
    assert shared.rdb.engine.pool.checkedin() == 1
    shared.close()


DYING_PROCESS = """
import os, signal, sys
import optuna
from pneumo.sweep.storage import open_study
storage = open_study(sys.argv[1], "s", ["maximize"], heartbeat_seconds=1, retries=int(sys.argv[2]))
trial = storage.claim_trial(100, lambda n_existing: optuna.samplers.RandomSampler(seed=n_existing))
if sys.argv[3] == "stop":
    storage.fail_trial(trial.number, "stopped", "interrupted")
os.kill(os.getpid(), signal.SIGKILL)
"""


def die_after_claiming(url, how, retries=2):
    """A process claims a trial and is killed before the parameters are suggested."""
    done = subprocess.run(
        [sys.executable, "-c", DYING_PROCESS, url, str(retries), how], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def wait_until_failed(storage):
    until = time.monotonic() + 30
    while "RUNNING" in states(storage) and time.monotonic() < until:
        storage.new_abandoned_runs()


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_design_has_each_arm_once_if_processes_died_before_suggesting(tmp_path, how, retries):
    url = f"sqlite:///{tmp_path}/study.db"
    question = {"before": {"optimizer.lr": 1e-3}, "after": {"optimizer.lr": 1e-4}}
    spec = {"seeds": 2, "needs": {}, "recipes": {"report": {}}, "questions": [question]}
    design = build_design(spec, [], "phantom")
    storage = open_study(url, "s", ["maximize"], heartbeat_seconds=1, retries=retries)
    storage.study.enqueue_trial(design.queue[0])  # by a process that was killed at this point
    begin_or_continue(storage, design.queue, {"settings": {}}, {}, {})
    for _ in range(4):
        die_after_claiming(url, how, retries)
        wait_until_failed(storage)
    while trial := storage.claim_trial(design.size, make_sampler, queued_only=True):
        design.suggest(trial)
        tell_locked(storage, trial.number, TrialResult("COMPLETE", values=[0.5]))
    complete = [trial.params for trial in storage.trials(TrialState.COMPLETE)]
    assert sorted(complete, key=str) == sorted(design.queue, key=str)


def test_given_trials_are_added_once_and_not_looked_for_again(storage, monkeypatch):
    def begin(*queue):
        begin_or_continue(storage, queue, {"settings": {}}, {}, {})
        return [private_api.known_params(trial) for trial in storage.trials()]

    assert begin({"x": 0.1}) == [{"x": 0.1}]
    assert begin({"x": 0.1}, {"x": 0.2}) == [{"x": 0.1}, {"x": 0.2}]
    assert begin({"x": 0.2}) == begin({"x": 0.1}) == [{"x": 0.1}, {"x": 0.2}]
    with monkeypatch.context() as patched:  # reading 10,000 trials would hold up each worker that joins
        patched.setattr(type(storage), "trials", lambda self: pytest.fail("all trials were read"))
        begin_or_continue(storage, [{"x": 0.1}], {"settings": {}}, {}, {})


def test_parameters_are_sampled_again_if_a_process_died_before_suggesting(storage, tmp_path):
    die_after_claiming(f"sqlite:///{tmp_path}/study.db", "kill")
    wait_until_failed(storage)
    tell_locked(storage, claim(storage, 1).number, TrialResult("COMPLETE", values=[0.5]))
    assert storage.claim_trial(1, make_sampler) is None
    assert states(storage) == ["FAIL", "COMPLETE"]
    assert 0 <= storage.trials()[1].params["x"] <= 1


@pytest.mark.parametrize(
    ("kind", "again"), [("crash", True), ("stopped", True), ("non-finite", False), ("configuration", False)]
)
def test_only_crashes_and_stops_are_retried(storage, kind, again):
    storage.fail_trial(claim(storage).number, kind, "why")
    assert states(storage) == ["FAIL", "WAITING"] if again else ["FAIL"]
    assert storage.trials()[0].user_attrs["failure"] == kind


def test_a_design_claims_queued_trials_only(storage):
    assert claim(storage, queued_only=True) is None
    storage.study.enqueue_trial({"x": 0.5})
    assert claim(storage, queued_only=True).params == {"x": 0.5}


def test_a_retry_is_claimed_before_what_was_queued_earlier(storage):
    for x in (0.1, 0.2, 0.3):
        storage.study.enqueue_trial({"x": x})
    stopped = claim(storage)
    storage.fail_trial(stopped.number, "stopped", "interrupted")
    again, other = claim(storage), claim(storage)
    assert (again.params, other.params) == ({"x": 0.1}, {"x": 0.2})
    assert again.user_attrs["attempts"] == [stopped.number]


def test_a_postponed_trial_is_claimed_again_at_its_place(storage):
    for x in (0.1, 0.2):
        storage.study.enqueue_trial({"x": x})
    postponed = claim(storage)
    storage.postpone(postponed.number)
    assert states(storage) == ["WAITING", "WAITING"]
    assert claim(storage).number == postponed.number


def test_the_options_of_an_sqlite_address_are_obeyed(tmp_path):
    open_study(f"sqlite:///{tmp_path}/study.db?timeout=120", "s", ["maximize"]).close()
    assert (tmp_path / "study.db").exists()


def test_a_duplicate_copies_values_and_learning_curve(storage):
    first = claim(storage)
    first.set_user_attr("config_hash", "h")
    first.set_user_attr("run_id", "abc")
    first.report(0.7, 1)
    tell_locked(storage, first.number, TrialResult("COMPLETE", values=[0.8], metrics={"best/val_auroc": 0.8}))
    second = claim(storage)
    storage.copy_result(storage.find_duplicate("h"), second)
    copied = storage.trials()[1]
    assert (copied.value, copied.intermediate_values) == (0.8, {1: 0.7})
    assert copied.user_attrs["duplicate_of"] == 0
    assert copied.user_attrs["run_id"] == "abc"
    assert storage.find_duplicate("other") is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fist", "has no study fist. Did you mean first?"),
        ("RAW", "has no study RAW. Did you mean report_raw?"),
        ("zzz", "has no study zzz; pneumo study lists those that there are"),
    ],
)
def test_a_missing_study_is_refused_with_the_nearest_names(name, hint, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    for other in ("first", "report_raw"):
        open_study(url, other, ["maximize"]).close()
    with pytest.raises(InputError, match=re.escape(hint)):
        open_study(url, name, directions=None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://127.0.0.1/x", "storage must begin with sqlite:/// or postgresql://"),
        ("grpc://head:13000", "gRPC proxy passes on neither heartbeats nor locks"),
        ("sqlite:////nowhere/at/all/study.db", "the folder /nowhere/at/all does not exist"),
        ("postgresql://me:secret@127.0.0.1:9/x", "cannot be reached"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_in_one_line_without_its_password(url, message):
    with pytest.raises(InputError) as refused:
        open_study(url, "s", ["maximize"])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_differences_name_what_changed():
    then, now = {"space": {"lr": "1 to 2", "loss": "ce"}}, {"space": {"lr": "1 to 3", "wd": "0 to 1"}}
    assert differences(then, now) == [
        "loss: then ce, now not there",
        "lr: then 1 to 2, now 1 to 3",
        "wd: then not there, now 0 to 1",
    ]


def beat_by_a_clock_behind(storage, trial, seconds):
    """A heartbeat of a process whose clock is so many seconds behind that of this one."""
    storage.record_heartbeat(trial.number)
    with storage.rdb.engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, :by)"),
            {"by": f"{-seconds} seconds"},
        )


@pytest.mark.parametrize("seconds", [90, -90])
def test_a_trial_is_kept_by_its_heartbeats_whatever_the_clock_of_its_process(storage, seconds):
    trial = claim(storage)
    until = time.monotonic() + 5  # longer than three heartbeats
    while time.monotonic() < until:
        beat_by_a_clock_behind(storage, trial, seconds)
        assert storage.new_abandoned_runs() == []
        assert states(storage) == ["RUNNING"]
        time.sleep(0.5)
    wait_until_failed(storage)
    assert states(storage) == ["FAIL", "WAITING"], "once no heartbeat comes any more"
