"""A study in MLflow's own pages, in a real browser."""

import sys

import mlflow
import pytest
from conftest import ROOT
from mlflow_server import serving
from postgres import free_port
from sweeps import LR_ALONE, swept, trials

from pneumo.runs.mlflow_pages import run_path

sys.path.insert(0, str(ROOT / "docs"))
import screenshots

PICTURE = "[...document.images].some(each => each.src.includes('history.png') && each.naturalWidth)"

__all__ = ["swept"]  # a fixture


@pytest.fixture
def server(workdir):
    """The address of an MLflow server on this folder's runs."""
    port = free_port()
    with serving(port):
        yield f"http://127.0.0.1:{port}"


needs_a_browser = pytest.mark.skipif(
    screenshots.browser() is None, reason="no chromium here: apt-get install chromium"
)


@needs_a_browser
def test_the_printed_address_opens_on_aurocs_data_and_curves(one_run, monkeypatch):
    folder, run_id, _ = one_run
    monkeypatch.chdir(folder)
    port = free_port()
    with serving(port), screenshots.a_page() as page:
        address = f"http://127.0.0.1:{port}"
        run = mlflow.MlflowClient(address).get_run(run_id)
        screenshots.overview(page, address, run.info.experiment_id, [run.info.run_name])
        for column in ("best/val_auroc", "test/auroc", "Dataset", "Description"):
            page.get_by_role("columnheader", name=column).first.wait_for()
        page.get_by_text("phantom-train").first.wait_for()
        assert page.get_by_text("Traces").count() <= 1, "the pages of model training, not of generative AI"
        screenshots.all_curves(page, address, run.info.experiment_id)
        first = page.locator(".js-plotly-plot").first.bounding_box()
        assert first["y"] < screenshots.SIZE["height"] / 2
        page.goto(f"{address}/#/experiments/{run.info.experiment_id}/runs/{run_id}/artifacts")
        for name in ("checkpoints", "configuration", "results"):
            page.get_by_text(name, exact=True).first.wait_for()


@needs_a_browser
def test_a_study_is_pleasant_to_compare(swept, server):
    code, said = swept("n_trials=3", "pruner=none", *LR_ALONE)
    assert code == 0, said
    runs = screenshots.trials_of(server, "s")
    best_first = sorted((trial.value for trial in trials()), reverse=True)
    assert [run.data.metrics["best/val_auroc"] for run in runs] == best_first
    with screenshots.a_page() as page:
        listed = screenshots.table(page, server, "s", runs)
        assert listed == [run.info.run_name for run in runs]
        for column in (
            "best/val_auroc",
            "optimizer.lr",
            "state",
        ):
            page.get_by_role("columnheader", name=column).first.wait_for()
        (parent,) = mlflow.search_runs(
            search_all_experiments=True, filter_string="tags.best_trial != ''", output_format="list"
        )
        page.goto(f"{server}/#{run_path(parent.info.experiment_id, parent.info.run_id)}")
        page.wait_for_function(PICTURE)
        with page.expect_popup() as opened:
            page.get_by_role("link", name="parallel coordinates and learning curves").click()
        opened.value.get_by_text("Parallel Coordinates").first.wait_for()
        screenshots.compare(page, server, runs)
        page.locator("text=best/val_auroc >> visible=true").first.wait_for()
        screenshots.curves(page, server, runs[0])
        assert page.locator(".js-plotly-plot").count() >= 5
