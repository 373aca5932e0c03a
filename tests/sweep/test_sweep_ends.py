"""How trials and studies end before their time: pruned, failed, out of budget, refused."""

import time

import pytest
import yaml
from conftest import SMALL
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError
from sweeps import BEGIN, LR_ALONE, folder, runs, swept, trials

from pneumo.errors import AwayError
from pneumo.sweep import workers
from pneumo.sweep.controller import StudyRun
from pneumo.sweep.plan import StudyPlan

__all__ = ["swept"]  # a fixture

BREAKING = """
from dataclasses import dataclass
import torch
from pneumo.components.losses import Bce

@dataclass(frozen=True, kw_only=True)
class Breaking(Bce):
    how: str = "crash"

    def __call__(self, logits, labels):
        if self.how == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if self.how == "crash":
            raise RuntimeError("boom")
        loss = super().__call__(logits, labels)
        return loss * float("nan") if self.how == "diverge" else loss

    def probability(self, logits):
        p = super().probability(logits)
        return torch.full_like(p, 0.5) if self.how == "guess" else p
"""


@pytest.fixture
def breaking(tmp_path, monkeypatch):
    """A loss that fails as it is told to."""
    (tmp_path / "breaking.py").write_text(BREAKING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PNEUMO_TRUST", "breaking.*")
    return [*LR_ALONE, "loss._target_=breaking.Breaking"]


def test_a_trial_that_is_worse_than_the_others_is_pruned_with_a_reason(swept, workdir, breaking):
    (workdir / "conf" / "loss").mkdir(parents=True)
    (workdir / "conf" / "loss" / "own.yaml").write_text("_target_: breaking.Breaking\nhow: learn\n")
    begin = [f"{{optimizer.lr: {lr}, loss.how: learn}}" for lr in (0.003, 0.004, 0.005)]
    code, printed = swept(
        "n_trials=4",
        f"search.enqueue=[{','.join([*begin, '{optimizer.lr: 0.003, loss.how: guess}'])}]",
        "loss=own",
        "loss.how=choice(learn,guess)",
        "pruner.n_startup_trials=1",
        "pruner.n_warmup_steps=0",
        "fit.epochs=6",
        *LR_ALONE[1:],
        small=[*SMALL, "data.n_images=200"],
    )
    assert code == 0, printed
    pruned = [trial for trial in trials() if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert 0 < trial.last_step < 6
        (run,) = runs(f"attributes.run_id = '{trial.user_attrs['run_id']}'")
        assert run.info.status == "KILLED"
        assert run.data.tags["pruned"].startswith(f"MedianPruner after epoch {trial.last_step}: val/auroc ")
        assert "best/val_auroc" in run.data.metrics
        assert f"pruned at {trial.last_step}/6" in printed


@pytest.mark.parametrize(
    ("how", "kind", "state", "tries"),
    [
        ("crash", "crash", "FAIL", 3),
        ("diverge", "non-finite", "FAIL", 1),
        ("memory", "out of memory", "PRUNED", 1),
    ],
)
def test_failures_have_a_kind_and_only_crashes_are_retried(swept, breaking, how, kind, state, tries):
    _, printed = swept(*breaking, f"+loss.how={how}", BEGIN, "retries=2", "n_trials=1")
    first = [trial for trial in trials() if trial.params.get("optimizer.lr") == 0.003]
    assert [trial.state.name for trial in first] == [state] * tries
    assert {trial.user_attrs["failure"] for trial in first} == {kind}
    (run,) = runs(f"attributes.run_id = '{first[0].user_attrs['run_id']}'")
    assert run.data.tags["failure"].startswith(kind)
    assert kind in printed


def test_a_log_that_cannot_be_written_is_no_traceback(swept, breaking):
    _, printed = swept(
        *breaking, "n_trials=1", "retries=0", "hydra.job_logging.handlers.file.filename=/dev/full"
    )
    assert "failed (crash)" in printed
    assert "Logging error" not in printed


def test_a_database_that_goes_away_is_one_line(swept, monkeypatch):
    def away(run):
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(StudyRun, "open_parent_run", away)
    code, printed = swept("n_trials=1", *LR_ALONE)
    assert code == 1
    assert "cannot be reached: server closed the connection" in printed
    assert "Traceback" not in printed


def test_a_trial_whose_server_is_away_is_stopped_and_not_wrongly_configured(swept, monkeypatch):
    def away(plan, overrides):
        raise AwayError("MLflow cannot be reached")

    def breaks_after_the_check(plan):
        monkeypatch.setattr(StudyPlan, "_compose", away)

    monkeypatch.setattr(StudyPlan, "check", breaks_after_the_check)
    code, printed = swept("n_trials=1", "hydra.sweeper.storage_minutes=0", BEGIN, *LR_ALONE)
    assert code == 1
    assert "MLflow cannot be reached" in printed
    stopped, again = trials()
    assert (stopped.user_attrs["failure"], again.state) == ("stopped", TrialState.WAITING)


def test_a_study_in_which_everything_fails_ends_with_1_and_a_result(swept, breaking):
    code, printed = swept(*breaking, "+loss.how=diverge", "n_trials=9")
    assert code == 1
    assert "stopped   too many trials failed: 4 of 4, above max_failure_rate=0.5" in printed
    assert len(trials()) == 4
    result = yaml.safe_load((folder() / "result.yaml").read_text())
    assert (result["failed"], result["complete"]) == (4, 0)
    assert "best_trial" not in result


def test_a_trial_that_crashes_again_and_again_is_one_failure_and_does_not_end_the_study(
    swept, workdir, breaking
):
    (workdir / "conf" / "loss").mkdir(parents=True)
    (workdir / "conf" / "loss" / "own.yaml").write_text("_target_: breaking.Breaking\nhow: learn\n")
    learn = [f"{{optimizer.lr: {lr}, loss.how: learn}}" for lr in (0.003, 0.004)]
    code, printed = swept(
        f"search.enqueue=[{','.join(['{optimizer.lr: 0.003, loss.how: crash}', *learn])}]",
        *("n_trials=2", "retries=2", "loss=own", "loss.how=choice(learn,crash)", *LR_ALONE[1:]),
    )
    assert code == 0, printed
    assert [trial.state.name for trial in trials()] == ["FAIL", "COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    assert "stopped" not in printed


@pytest.mark.parametrize(
    ("n_trials", "reason"),
    [(2, "every trial was out of memory"), (9, "too many trials failed: 4 of 4, above max_failure_rate=0.5")],
)
def test_a_study_whose_trials_are_all_out_of_memory_ends_with_1_and_says_so(
    swept, breaking, n_trials, reason
):
    code, printed = swept(*breaking, "+loss.how=memory", f"n_trials={n_trials}")
    assert code == 1
    assert f"stopped   {reason}" in printed
    assert "pneumo confirm" not in printed
    assert yaml.safe_load((folder() / "result.yaml").read_text())["stopped"] == reason


def test_a_study_without_a_trial_left_is_done_and_not_stopped_by_its_hours(swept, monkeypatch):
    swept("n_trials=1", BEGIN, *LR_ALONE)
    monkeypatch.setenv(workers.BEGAN, f"{time.time() - 3600}")
    code, printed = swept("n_trials=1", "hours=.5", BEGIN, *LR_ALONE)
    assert code == 0, printed
    assert "stopped" not in printed
    assert yaml.safe_load((folder() / "result.yaml").read_text())["stopped"] == "all trials are done"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [("patience=1", "no better trial in "), ("hours=0.0001", "hours=0.0001 are over")],
)
def test_a_budget_ends_a_study_early_and_says_which(swept, stop, reason):
    _, printed = swept(
        "n_trials=30", stop, *LR_ALONE, "search.enqueue=[{optimizer.lr: 0.003},{optimizer.lr: 1e-4}]"
    )
    assert f"stopped   {reason}" in printed
    assert len(trials()) < 30
    assert yaml.safe_load((folder() / "result.yaml").read_text())["stopped"].startswith(reason)


def test_the_hours_of_a_worker_that_is_started_again_are_those_of_its_command(swept, monkeypatch):
    monkeypatch.setenv(workers.BEGAN, f"{time.time() - 3600}")
    _, printed = swept("n_trials=2", "hours=.5", *LR_ALONE)
    assert "stopped   hours=0.5 are over" in printed
    assert {trial.state for trial in trials()} == {TrialState.WAITING}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("optimizer.lrr=interval(0,1)", "optimizer.lrr=0"),
        ("loss=bce,bcee", "loss=bcee: "),
        ("fit.batch_size=0,6", "fit.batch_size=0: fit.batch_size must be at least 1, got 0"),
        ("optimizer.lr=interval(2,1)", "optimizer.lr=interval(2,1): "),
        ("n_trials=3,4", "one study has one n_trials"),
        ("pruner.n_startup_trials=-1", "pruner: "),
        ("+hydra.sweeper.sampler.nonsense=1", "hydra/sweeper/sampler: "),
    ],
)
def test_an_invalid_space_is_refused_before_anything_is_written(swept, workdir, typed, message):
    code, printed = swept(typed)
    assert code == 1
    assert message in printed
    assert "Traceback" not in printed
    assert not (workdir / "study.db").exists()
    assert not (workdir / "outputs").exists()
