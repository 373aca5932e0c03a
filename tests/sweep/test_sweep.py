"""Whole sweeps: what they find and what they leave."""

import json
import logging
import sys
from pathlib import Path

import mlflow
import pytest
import yaml
from conftest import SMALL
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from optuna.trial import TrialState
from sweeps import BEGIN, LR_ALONE, TINY, files, folder, runs, swept, trials

from pneumo.cli import app
from pneumo.runs import planner

__all__ = ["swept"]  # a fixture


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


def test_a_trial_is_composed_once(swept, monkeypatch):
    compose, composed = ConfigLoaderImpl.load_sweep_config, []

    def counted(loader, master_config, sweep_overrides):
        composed.extend(word for word in sweep_overrides if word.startswith("trial="))
        return compose(loader, master_config, sweep_overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    swept("n_trials=2", *LR_ALONE)
    assert composed == ["trial=0", "trial=1"]


def test_a_trial_of_a_study_learns_what_the_same_run_learns_alone(swept, composed, workdir):
    from pneumo.runs.run import run

    swept("n_trials=2", BEGIN, *LR_ALONE)
    alone = run(composed(*TINY, *LR_ALONE, "optimizer.lr=0.003", "fit.test=false"), workdir / "alone")
    assert trials()[0].value == alone["best/val_auroc"]


def test_an_equal_configuration_takes_the_result_and_costs_nothing(swept):
    twice = "search.enqueue=[{optimizer.lr: 0.003},{optimizer.lr: 0.003}]"
    code, printed = swept("n_trials=2", twice, *LR_ALONE)
    assert code == 0, printed
    first, second = trials()
    assert second.user_attrs["duplicate_of"] == 0
    assert (second.value, second.user_attrs["run_id"]) == (first.value, first.user_attrs["run_id"])
    assert len(runs("tags.trial != ''")) == 1
    assert "2 complete (1 of them taken over from equal ones)" in printed


def test_several_objectives_have_a_front_instead_of_a_best(swept):
    code, printed = swept("objective=[val/auroc,fit_seconds]", "n_trials=3", *LR_ALONE)
    assert code == 0, printed
    assert "several objectives are not pruned" in printed
    assert all(len(trial.values) == 2 for trial in trials())
    (parent,) = runs("tags.best_trial != ''")
    page = mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/study.md")
    assert "Not beaten in every objective" in page
    assert {"best/val_auroc", "fit_seconds"} <= parent.data.metrics.keys()


def test_a_dry_run_composes_five_samples_and_writes_nothing(swept, workdir):
    code, printed = swept("dry_run=true", "search=full")
    assert code == 0, printed
    assert "loss.gamma" in printed
    assert " #4  " in printed
    assert list(workdir.iterdir()) == []


def test_a_trial_that_plans_itself_tells_its_epochs(swept, monkeypatch):
    monkeypatch.setattr(planner, "MOST_EPOCHS", 3)
    code, printed = swept("n_trials=1", "experiment=auto", BEGIN, *LR_ALONE, small=[*SMALL, "model.width=4"])
    assert code == 0, printed
    (trial,) = trials()
    assert (trial.user_attrs["epochs"], trial.last_step) == (3, 3)


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
    swept("n_trials=1", BEGIN, *LR_ALONE)
    (trial,) = trials()
    capfd.readouterr()
    app.invoke(["reproduce", trial.user_attrs["run_id"], "--json"])
    printed = capfd.readouterr()
    assert "REPRODUCED: all 2 epochs are equal to the last digit" in printed.err
    found = json.loads(printed.out)
    assert (found["original"], found["equal"], found["epochs"]) == (trial.user_attrs["run_id"], True, 2)
    assert set(found["largest_difference"].values()) == {0}
