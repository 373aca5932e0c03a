"""Whole sweeps, in this process: what they find, how they fail, what they leave."""

import json
import logging
import runpy
import sys
import time
from pathlib import Path

import mlflow
import pytest
import yaml
from conftest import ROOT, SMALL
from optuna.trial import TrialState

from pneumo.cli import app
from pneumo.sweep import workers
from pneumo.sweep.folders import folder_of
from pneumo.sweep.storage import open_study

TINY = [*SMALL, "model.width=4", "fit.epochs=2"]
LR_ALONE = ["loss=bce", "fit.batch_size=32", "fit.accumulation_steps=1"]  # is searched, of search=report
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
def swept(workdir, tmp_path_factory, monkeypatch, capfd):
    """Overrides -> (exit code, what was printed), of a sweep in this process and this folder."""
    monkeypatch.setenv("PNEUMO_STORES", str(tmp_path_factory.getbasetemp() / "stores"))
    monkeypatch.delenv("PNEUMO_STORAGE", raising=False)

    def run(*overrides, small=TINY):
        monkeypatch.setattr(sys, "argv", ["sweep.py", "-m", "study=s", "workers=1", *small, *overrides])
        try:
            runpy.run_path(str(ROOT / "sweep.py"), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
        printed = capfd.readouterr()
        return (1, f"{printed.out}{code}") if isinstance(code, str) else (code, printed.out + printed.err)

    return run


@pytest.fixture
def breaking(tmp_path, monkeypatch):
    """A loss that fails as it is told to."""
    (tmp_path / "breaking.py").write_text(BREAKING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PNEUMO_TRUST", "breaking.*")
    return [*LR_ALONE, "loss._target_=breaking.Breaking"]


def trials():
    return open_study("sqlite:///study.db", "s", directions=None).study.get_trials()


def runs(filter_string=""):
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    return mlflow.search_runs(search_all_experiments=True, filter_string=filter_string, output_format="list")


def folder():
    """That of the study."""
    return folder_of(open_study("sqlite:///study.db", "s", directions=None).study)


def files(run_id, folder=None):
    return {file.path for file in mlflow.MlflowClient().list_artifacts(run_id, folder)}


def test_a_study_ends_with_its_best_its_counts_and_one_parent_over_its_runs(swept):
    code, printed = swept("n_trials=4", "pruner=none")
    assert code == 0, printed
    done = trials()
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 4
    assert done[0].params == {
        "optimizer.lr": 1e-3,
        "fit.accumulation_steps": 1,
        "fit.batch_size": 6,
        "loss": "ce",
    }
    best = max(done, key=lambda trial: trial.value)
    assert f"best      #{best.number}: " in printed
    assert "trials    4 complete, 0 pruned, 0 failed" in printed

    result = yaml.safe_load((folder() / "result.yaml").read_text())
    assert (result["best_trial"], result["complete"]) == (best.number, 4)

    (parent,) = runs("tags.best_trial != ''")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best_run"] == best.user_attrs["run_id"]
    assert parent.data.metrics["best/val_auroc"] == best.value
    assert {"study.md", "study.html", "result.yaml", "plots"} <= files(parent.info.run_id)
    children = runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 4
    for child in children:
        trial = done[int(child.data.tags["trial"])]
        assert child.data.tags["study"] == "s"
        assert child.data.tags["search"] == "report"
        assert child.data.tags["state"] == "complete"
        assert child.data.metrics["best/val_auroc"] == trial.value
        assert child.data.params["fit.batch_size"] == str(trial.params["fit.batch_size"])
        assert not {name.split(".")[0] for name in child.data.params} & {"n_trials", "storage", "search"}
        assert not any(name.startswith("test/") for name in child.data.metrics)
        assert ("pictures" in files(child.info.run_id)) == (trial.number == best.number)


def test_trials_leave_nothing_in_the_process(swept):
    from pneumo.sweep.trial import DATASETS

    DATASETS.clear()
    swept("n_trials=1", *LR_ALONE)
    (opened_first,) = DATASETS.values()
    handlers = list(logging.getLogger().handlers)
    open_files = {path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()}
    code, printed = swept("n_trials=4", *LR_ALONE)
    assert code == 0, printed
    assert mlflow.active_run() is None
    assert list(DATASETS.values()) == [opened_first]
    assert len(logging.getLogger().handlers) <= len(handlers)
    left = {path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()} - open_files
    assert not [path for path in left if "outputs" in str(path)]


def test_a_trial_of_a_study_learns_what_the_same_run_learns_alone(swept, composed, workdir):
    from pneumo.runs.run import run

    swept("n_trials=2", "search.enqueue=[{optimizer.lr: 0.003}]", *LR_ALONE)
    alone = run(composed(*TINY, *LR_ALONE, "optimizer.lr=0.003", "fit.test=false"), workdir / "alone")
    assert trials()[0].value == alone["best/val_auroc"]


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


def test_an_equal_configuration_takes_the_result_and_costs_nothing(swept):
    twice = "search.enqueue=[{optimizer.lr: 0.003},{optimizer.lr: 0.003}]"
    code, printed = swept("n_trials=2", twice, *LR_ALONE)
    assert code == 0, printed
    first, second = trials()
    assert second.user_attrs["duplicate_of"] == 0
    assert (second.value, second.user_attrs["run_id"]) == (first.value, first.user_attrs["run_id"])
    assert len(runs("tags.trial != ''")) == 1
    assert "2 complete (1 of them taken over from equal ones)" in printed


@pytest.mark.parametrize(
    ("how", "kind", "state", "tries"),
    [
        ("crash", "crash", "FAIL", 3),
        ("diverge", "non-finite", "FAIL", 1),
        ("memory", "out of memory", "PRUNED", 1),
    ],
)
def test_failures_have_a_kind_and_only_crashes_are_retried(swept, breaking, how, kind, state, tries):
    begin = "search.enqueue=[{optimizer.lr: 0.003}]"
    _, printed = swept(*breaking, f"+loss.how={how}", begin, "retries=2", "n_trials=1")
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


def test_a_study_in_which_everything_fails_ends_with_1_and_a_result(swept, breaking):
    code, printed = swept(*breaking, "+loss.how=diverge", "n_trials=9")
    assert code == 1
    assert "stopped   too many trials failed: 4 of 4, above max_failure_rate=0.5" in printed
    assert len(trials()) == 4
    result = yaml.safe_load((folder() / "result.yaml").read_text())
    assert (result["failed"], result["complete"]) == (4, 0)
    assert "best_trial" not in result


def test_several_objectives_have_a_front_instead_of_a_best(swept):
    code, printed = swept("objective=[val/auroc,fit_seconds]", "n_trials=3", *LR_ALONE)
    assert code == 0, printed
    assert "several objectives are not pruned" in printed
    assert all(len(trial.values) == 2 for trial in trials())
    assert (
        "Not beaten in every objective" in Path("study.md").read_text() if Path("study.md").exists() else True
    )


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


def test_a_dry_run_composes_five_samples_and_writes_nothing(swept, workdir):
    code, printed = swept("dry_run=true", "search=full")
    assert code == 0, printed
    assert "loss.gamma" in printed
    assert " #4  " in printed
    assert list(workdir.iterdir()) == []


def test_the_stock_sweeper_sees_the_same_space_and_our_task(swept):
    code, printed = swept("hydra/sweeper=optuna", "n_trials=2", "hydra.sweeper.sampler.seed=0")
    assert code == 0, printed
    found = yaml.safe_load(Path("outputs/studies/s/optimization_results.yaml").read_text())
    assert set(found["best_params"]) == {
        "optimizer.lr",
        "fit.accumulation_steps",
        "fit.batch_size",
        "loss",
    }
    assert 0 < found["best_value"] <= 1


def test_a_design_runs_its_arms_and_its_page_shows_what_is_missing(swept, monkeypatch, capfd):
    question = "{concluded: larger, tested: 6 to 16, before: {}, after: {fit.batch_size: 16}}"
    command = [
        "search=conclusions",
        "search.design.seeds=2",
        "search.design.tuning_seeds=1",
        "search.design.rates.sgd=[0.001, 0.01]",
        "~search.design.recipes.report_whole",
        "~search.design.recipes.recommended",
        f"search.design.questions=[{question}]",
        "search.design.styles.phantom=[default,crisp]",
    ]
    _, printed = swept(*command, "hours=0.0001")
    assert "stopped   hours=0.0001 are over" in printed
    code, printed = swept(*command)
    assert code == 0, printed
    arms = ["report", "report: fit.batch_size=16"]
    judged = [(t.params["arm"], t.params["rate"], t.params["seed"]) for t in trials()[4:]]
    assert judged == [(arm, rate, seed) for seed in (0, 1) for rate in ("same", "own") for arm in arms]
    own = [t.user_attrs["overrides"] for t in trials() if t.params["rate"] == "own"]
    assert all("optimizer.lr=0.001" in words or "optimizer.lr=0.01" in words for words in own)
    styles = [next(w for w in words if w.startswith("data.style")) for words in own]
    assert styles == ["data.style=default"] * 2 + ["data.style=crisp"] * 2
    monkeypatch.setattr(sys, "argv", ["pneumo", "study", "s"])
    app.main()
    page = (folder() / "study.md").read_text()
    assert "12 of 12 trials done" in page
    assert "UNFINISHED" not in page
    assert "The smallest effect it could have seen" in page
    assert "<table>" in (folder() / "study.html").read_text()
    capfd.readouterr()
    app.invoke(["study", "s", "--json"])
    found = json.loads(capfd.readouterr().out)
    assert (found["study"], found["complete"], found["n_trials"]) == ("s", 12, 12)
    assert any("helps" in str(table) or "no evidence" in str(table) for table in found["tables"].values())


def test_the_best_is_confirmed_with_fresh_seeds_and_the_test_split_is_looked_at_once(
    swept, monkeypatch, capfd, tmp_path
):
    swept("n_trials=2", "pruner=none", *LR_ALONE)
    monkeypatch.setattr(sys, "argv", ["pneumo", "confirm", "s", "--top", "1", "--seeds", "2"])
    app.main()
    printed = capfd.readouterr().out
    assert "evaluated once" in printed
    confirmed = runs("tags.confirms != ''")
    assert {run.data.tags["seed"] for run in confirmed} == {"1000", "1001"}
    assert sum("test/auroc" in run.data.metrics for run in confirmed) == 1
    recipe = Path("recipes/experiment/confirmed/best.yaml").read_text()
    assert yaml.safe_load(recipe)["fit"]["batch_size"] == 32
    assert "# Test AUROC" in recipe

    app.invoke(["confirm", "s", "--top", "1", "--seeds", "2", "--json"])
    found = json.loads(capfd.readouterr().out)
    (best,) = found["confirmed"]
    assert sorted(best["values"]) == sorted(run.data.metrics["best/val_auroc"] for run in confirmed)
    assert best["optimism"] == pytest.approx(best["chosen_by"] - sum(best["values"]) / 2)
    tested = next(run for run in confirmed if "test/auroc" in run.data.metrics)
    assert found["tested"]["figures"]["auroc"] == tested.data.metrics["test/auroc"]
    assert len(runs("tags.confirms != ''")) == 2, "what was confirmed is not run again"
    assert sum("test/auroc" in run.data.metrics for run in runs("tags.confirms != ''")) == 1


def test_a_run_is_reproduced_to_the_last_digit_on_the_same_machine(swept, capfd):
    swept("n_trials=1", *LR_ALONE)
    (trial,) = trials()
    capfd.readouterr()
    app.invoke(["reproduce", trial.user_attrs["run_id"], "--json"])
    printed = capfd.readouterr()
    assert "REPRODUCED: all 2 epochs are equal to the last digit" in printed.err
    found = json.loads(printed.out)
    assert (found["original"], found["equal"], found["epochs"]) == (trial.user_attrs["run_id"], True, 2)
    assert set(found["largest_difference"].values()) == {0}
