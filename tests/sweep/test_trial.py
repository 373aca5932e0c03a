"""How a trial ends: pruned, out of memory, on a full disk, or with a result that is stored later."""

import errno

import optuna
import pytest
from claims import claim, states, storage
from optuna.trial import TrialState

from pneumo.data.atomic import atomic_path
from pneumo.errors import AwayError
from pneumo.sweep.storage import open_study
from pneumo.sweep.trial import TrialCallback, TrialResult, is_open_attempt, tell_locked, tell_saved_results

__all__ = ["storage"]  # a fixture


def test_an_error_without_a_message_is_out_of_memory_all_the_same(storage):
    def train(callback):
        raise MemoryError

    result = TrialCallback(storage, claim(storage).number, "val/auroc", {}).run(train, list)
    assert (result.state, result.kind) == ("PRUNED", "out of memory")


def test_out_of_memory_is_kept_as_a_constraint_that_the_sampler_sees(storage):
    trial = claim(storage)
    tell_locked(storage, trial.number, TrialResult("PRUNED", kind="out of memory", reason="boom"))
    (frozen,) = storage.trials()
    assert frozen.state == TrialState.PRUNED
    assert sum(frozen.constraints.values()) > 0


def test_a_saved_result_is_stored_at_the_next_start(storage, tmp_path):
    trial = claim(storage)
    folder = tmp_path / "0"
    folder.mkdir()
    (folder / "untold.json").write_text(
        '{"trial": 0, "state": "COMPLETE", "values": [0.9], "kind": "", "reason": "", "figures": {"a": 1}}'
    )
    storage.fail_trial(trial.number, "crash", "its process died")  # another process queued it again meanwhile
    assert is_open_attempt(storage.trials()[1], 0)
    assert tell_saved_results(storage, tmp_path) == [0]
    assert [t.state.name for t in storage.trials()] == ["FAIL", "COMPLETE"]
    assert storage.trials()[1].value == 0.9
    assert tell_saved_results(storage, tmp_path) == []


@pytest.mark.parametrize("is_last", [False, True])
def test_a_worse_trial_is_pruned_unless_it_was_its_last_epoch(tmp_path, is_last):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    storage = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], pruner)
    good = TrialCallback(storage, claim(storage).number, "val/auroc", {})
    good.on_epoch_end(1, {"val/auroc": 0.9}, is_last=True)
    tell_locked(storage, good.number, TrialResult("COMPLETE", [0.9]))
    worse = TrialCallback(storage, claim(storage).number, "val/auroc", {})

    def train(callback):
        callback.on_epoch_end(1, {"val/auroc": 0.1}, is_last)
        return {"best/val_auroc": 0.1}

    result = worse.run(train, lambda metrics: [metrics["best/val_auroc"]])
    tell_locked(storage, worse.number, result)
    assert states(storage) == ["COMPLETE", "COMPLETE" if is_last else "PRUNED"]
    assert (result.values == [0.1]) == is_last


def test_a_full_disk_stops_the_study_and_is_no_crash_of_the_trial(storage, tmp_path):
    def train(callback):
        with atomic_path(tmp_path / "last.pt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    callback = TrialCallback(storage, claim(storage).number, "val/auroc", {})
    with pytest.raises(AwayError, match=r"The disk is full: .*last.pt cannot be written \(No space left"):
        callback.run(train, list)
