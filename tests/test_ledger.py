"""Taking, failing and queueing again, on a real database."""

import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

from pneumo.errors import InputError
from pneumo.sweep.heartbeat import beating
from pneumo.sweep.ledger import differences, opened
from pneumo.sweep.trial import Outcome, stands_for, tell_untold, told


@pytest.fixture
def ledger(tmp_path):
    return opened(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=1, retries=2)


def sampler(n_there):
    return optuna.samplers.RandomSampler(seed=n_there)


def taken(ledger, n_trials=10, **options):
    trial = ledger.take(n_trials, sampler, **options)
    if trial is not None:
        trial.suggest_float("x", 0, 1)
    return trial


def states(ledger):
    return [trial.state.name for trial in ledger.trials()]


def test_no_more_trials_are_taken_than_there_shall_be_whoever_asks(ledger, tmp_path):
    other = opened(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=60)
    won = []

    def greedy(own):
        while (trial := own.take(7, sampler)) is not None:
            won.append(trial.number)

    threads = [threading.Thread(target=greedy, args=(own,)) for own in (ledger, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(7))


def test_a_trial_whose_heart_stopped_is_failed_and_queued_again(ledger):
    trial = taken(ledger)
    ledger.storage.set_trial_user_attr(trial._trial_id, "run_id", "abc")
    until = time.monotonic() + 20
    while "WAITING" not in states(ledger) and time.monotonic() < until:
        ledger.given_up()
    again = taken(ledger)
    assert states(ledger) == ["FAIL", "RUNNING"]
    frozen = ledger.trials()[again.number]
    assert frozen.params == ledger.trials()[0].params
    assert frozen.user_attrs == {"run_id": "abc", "attempts": [0]}


def test_a_beating_trial_is_left_alone(ledger):
    trial = taken(ledger)
    beats = []
    record = ledger.storage.record_heartbeat
    ledger.storage.record_heartbeat = lambda trial_id: (record(trial_id), beats.append(trial_id))
    with beating(ledger, [trial._trial_id]):
        until = time.monotonic() + 20
        while len(beats) < 5 and time.monotonic() < until:
            ledger.given_up()
    assert states(ledger) == ["RUNNING"]


def test_a_trial_that_never_had_a_heartbeat_is_reaped_too(ledger):
    ledger.study.ask()  # and its process died before it could say that it lives
    assert taken(ledger).number == 1
    assert states(ledger)[0] == "FAIL"


def test_a_trial_that_crashes_again_and_again_is_given_up(ledger):
    for _ in range(3):
        ledger.fail(taken(ledger)._trial_id, "crash", "boom")
    assert states(ledger) == ["FAIL", "FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("kind", "again"), [("crash", True), ("stopped", True), ("non-finite", False), ("configuration", False)]
)
def test_only_what_may_go_better_is_tried_again(ledger, kind, again):
    ledger.fail(taken(ledger)._trial_id, kind, "why")
    assert states(ledger) == ["FAIL", "WAITING"] if again else ["FAIL"]
    assert ledger.trials()[0].user_attrs["failure"] == kind


def test_a_design_takes_what_is_queued_and_nothing_else(ledger):
    assert taken(ledger, queued_only=True) is None
    ledger.study.enqueue_trial({"x": 0.5})
    assert taken(ledger, queued_only=True).params == {"x": 0.5}


def test_out_of_memory_is_kept_as_a_constraint_that_the_sampler_sees(ledger):
    trial = taken(ledger)
    told(ledger, trial._trial_id, Outcome("PRUNED", kind="out of memory", reason="boom"))
    (frozen,) = ledger.trials()
    assert frozen.state == TrialState.PRUNED
    assert sum(frozen.constraints.values()) > 0


def test_a_copy_takes_over_result_and_curve(ledger):
    first = taken(ledger)
    first.set_user_attr("config_hash", "h")
    first.set_user_attr("run_id", "abc")
    first.report(0.7, 1)
    told(ledger, first._trial_id, Outcome("COMPLETE", values=[0.8], figures={"best/val_auroc": 0.8}))
    second = taken(ledger)
    ledger.copy(ledger.equal("h"), second)
    copied = ledger.trials()[1]
    assert (copied.value, copied.intermediate_values) == (0.8, {1: 0.7})
    assert copied.user_attrs["duplicate_of"] == 0
    assert copied.user_attrs["run_id"] == "abc"
    assert ledger.equal("other") is None


def test_a_result_the_storage_did_not_take_is_told_at_the_next_start(ledger, tmp_path):
    trial = taken(ledger)
    folder = tmp_path / "0"
    folder.mkdir()
    (folder / "untold.json").write_text(
        '{"trial": 0, "state": "COMPLETE", "values": [0.9], "kind": "", "reason": "", "figures": {"a": 1}}'
    )
    ledger.fail(trial._trial_id, "crash", "its process died")  # meanwhile somebody queued it again
    assert stands_for(ledger.trials()[1], 0)
    assert tell_untold(ledger, tmp_path) == [0]
    assert [t.state.name for t in ledger.trials()] == ["FAIL", "COMPLETE"]
    assert ledger.trials()[1].value == 0.9
    assert tell_untold(ledger, tmp_path) == []


def test_a_study_that_is_not_there_is_named_with_those_that_are(ledger, tmp_path):
    with pytest.raises(InputError, match="has no study t; it has s"):
        opened(f"sqlite:///{tmp_path}/study.db", "t", directions=None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://127.0.0.1/x", "storage must begin with sqlite:/// or postgresql://"),
        ("sqlite:////nowhere/at/all/study.db", "the folder /nowhere/at/all is not there"),
        ("postgresql://me:secret@127.0.0.1:9/x", "cannot be reached"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_in_one_line_without_its_password(url, message):
    with pytest.raises(InputError) as refused:
        opened(url, "s", ["maximize"])
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
