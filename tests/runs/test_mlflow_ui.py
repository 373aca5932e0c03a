"""A study in MLflow's own pages, in a real browser."""

import sys

import pytest
from conftest import ROOT
from mlflow_server import serving
from postgres import free_port
from test_sweep import LR_ALONE, swept, trials

sys.path.insert(0, str(ROOT / "docs"))
screenshots = pytest.importorskip("screenshots", reason="playwright is not installed")

__all__ = ["swept"]  # a fixture


@pytest.fixture
def server(workdir):
    """The address of an MLflow server on this folder's runs."""
    port = free_port()
    with serving(port):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.skipif(screenshots.browser() is None, reason="no chromium here: apt-get install chromium")
def test_a_study_is_pleasant_to_compare(swept, server):
    code, said = swept("n_trials=3", "pruner=none", *LR_ALONE)
    assert code == 0, said
    runs = screenshots.trials_of(server, "s")
    best_first = sorted((trial.value for trial in trials()), reverse=True)
    assert [run.data.metrics["best/val_auroc"] for run in runs] == best_first
    with screenshots.a_page() as page:
        listed = screenshots.table(page, server, "s", runs)
        assert listed == [run.info.run_name for run in runs]
        for column in ("best/val_auroc", "optimizer.lr", "state"):
            page.get_by_role("columnheader", name=column).first.wait_for()
        screenshots.compare(page, server, runs)
        page.locator("text=best/val_auroc >> visible=true").first.wait_for()
        screenshots.curves(page, server, runs[0])
        assert page.locator(".js-plotly-plot").count() >= 5
