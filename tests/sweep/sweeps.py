"""Whole sweeps in the process of a test, and what they have left."""

import runpy
import sys
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT, SMALL

from pneumo.cli import app
from pneumo.sweep.folders import folder_of
from pneumo.sweep.storage import open_study

TINY = [*SMALL, "model.width=4", "fit.epochs=2"]
LR_ALONE = ["loss=bce", "fit.batch_size=32", "fit.accumulation_steps=1"]  # is searched, of search=report
BEGIN = "search.enqueue=[{optimizer.lr: 0.003}]"  # one given trial alone: none waits where n_trials=1


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


def study():
    return open_study("sqlite:///study.db", "s", directions=None).study


def output_of(monkeypatch, capfd, *words):
    """What `pneumo ...` prints."""
    monkeypatch.setattr(sys, "argv", ["pneumo", *words])
    app.main()
    return capfd.readouterr().out
