"""Taking, failing and queueing again, on a real database."""

import signal
import subprocess
import sys
import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

from pneumo.errors import InputError
from pneumo.sweep.ablation import design_of
from pneumo.sweep.heartbeat import beating
from pneumo.sweep.storage import differences, open_study
from pneumo.sweep.trial import Outcome, TrialCallback, stands_for, tell_untold, told


@pytest.fixture
def ledger(tmp_path):
    return open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=1, retries=2)


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
    other = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=60)
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


def test_stops_use_up_none_of_a_crashs_retries(ledger):
    for kind in ["stopped"] * 10 + ["crash", "stopped", "crash", "stopped"]:
        ledger.fail(taken(ledger)._trial_id, kind, "why")
        assert states(ledger)[-1] == "WAITING", kind
    ledger.fail(taken(ledger)._trial_id, "crash", "why")
    assert set(states(ledger)) == {"FAIL"}, "the third crash, after two retries"


def test_a_trial_that_died_is_given_up_after_its_crashes_alone(ledger):
    for kind in ("stopped", "stopped", "crash"):
        trial = taken(ledger)
        trial.set_user_attr("run_id", "abc")
        ledger.fail(trial._trial_id, kind, "its process died")
    assert ledger.given_up() == []


def test_a_trial_whose_process_died_between_failing_and_queueing_it_is_queued_again_once(ledger):
    ledger.study.enqueue_trial({"x": 0.25})
    trial = taken(ledger)
    ledger.storage.set_trial_user_attr(trial._trial_id, "failure", "crash")
    ledger.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # so far it had come
    assert taken(ledger).params == {"x": 0.25}
    assert taken(ledger).params != {"x": 0.25}
    assert states(ledger) == ["FAIL", "RUNNING", "RUNNING"]


DYING = """
import os, signal, sys
import optuna
from pneumo.sweep.storage import open_study
ledger = open_study(sys.argv[1], "s", ["maximize"], heartbeat_seconds=1, retries=int(sys.argv[2]))
trial = ledger.take(100, lambda n_there: optuna.samplers.RandomSampler(seed=n_there))
if sys.argv[3] == "stop":
    ledger.fail(trial._trial_id, "stopped", "told to stop")
os.kill(os.getpid(), signal.SIGKILL)
"""


def dies_before_it_asks(url, how, retries=2):
    """A process that takes a trial and ends before it asks for the parameters."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, url, str(retries), how], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def after_the_reaping(ledger):
    until = time.monotonic() + 30
    while "RUNNING" in states(ledger) and time.monotonic() < until:
        ledger.given_up()


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_design_has_each_arm_once_where_processes_died_before_they_asked(tmp_path, how, retries):
    url = f"sqlite:///{tmp_path}/study.db"
    question = {"before": {"optimizer.lr": 1e-3}, "after": {"optimizer.lr": 1e-4}}
    spec = {"seeds": 2, "needs": {}, "recipes": {"report": {}}, "questions": [question]}
    design = design_of(spec, [], "phantom")
    ledger = open_study(url, "s", ["maximize"], heartbeat_seconds=1, retries=retries)
    ledger.study.enqueue_trial(design.queue[0])  # so far a process had come that was killed, too
    ledger.prepare(design.queue, {"settings": {}}, {}, {})
    for _ in range(4):
        dies_before_it_asks(url, how, retries)
        after_the_reaping(ledger)
    while trial := ledger.take(design.size, sampler, queued_only=True):
        design.suggest(trial)
        told(ledger, trial._trial_id, Outcome("COMPLETE", values=[0.5]))
    complete = [trial.params for trial in ledger.trials(TrialState.COMPLETE)]
    assert sorted(complete, key=str) == sorted(design.queue, key=str)


def test_what_was_sampled_for_a_process_that_died_before_it_asked_is_sampled_again(ledger, tmp_path):
    dies_before_it_asks(f"sqlite:///{tmp_path}/study.db", "kill")
    after_the_reaping(ledger)
    told(ledger, taken(ledger, 1)._trial_id, Outcome("COMPLETE", values=[0.5]))
    assert ledger.take(1, sampler) is None
    assert states(ledger) == ["FAIL", "COMPLETE"]
    assert 0 <= ledger.trials()[1].params["x"] <= 1


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
    told(ledger, first._trial_id, Outcome("COMPLETE", values=[0.8], metrics={"best/val_auroc": 0.8}))
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
        open_study(f"sqlite:///{tmp_path}/study.db", "t", directions=None)


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


@pytest.mark.parametrize("is_last", [False, True])
def test_a_trial_that_is_worse_is_stopped_unless_all_of_it_is_paid_already(tmp_path, is_last):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    ledger = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], pruner)
    good = TrialCallback(ledger, taken(ledger).number, "val/auroc", {})
    good.on_epoch_end(1, {"val/auroc": 0.9}, is_last=True)
    told(ledger, good.trial_id, Outcome("COMPLETE", [0.9]))
    worse = TrialCallback(ledger, taken(ledger).number, "val/auroc", {})

    def run(callback):
        callback.on_epoch_end(1, {"val/auroc": 0.1}, is_last)
        return {"best/val_auroc": 0.1}

    outcome = worse.carry_out(run, lambda metrics: [metrics["best/val_auroc"]])
    told(ledger, worse.trial_id, outcome)
    assert states(ledger) == ["COMPLETE", "COMPLETE" if is_last else "PRUNED"]
    assert (outcome.values == [0.1]) == is_last
