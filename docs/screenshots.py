"""python docs/screenshots.py ADDRESS STUDY FOLDER: a study as MLflow shows it, in pictures.

ADDRESS is that of an MLflow server; a browser is driven as a person would: the table of the study's runs
sorted by their best AUROC, the parallel coordinates of the compare page, the best run's curves. Without
STUDY, the two pages that the last line of a training leads to: the table of an experiment's runs with their
AUROCs, and their learning curves.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import mlflow
from mlflow.entities import Run
from playwright.sync_api import Page, sync_playwright

from pneumo.runs.mlflow_pages import runs_path

SIZE = {"width": 1560, "height": 860}
PARAMETERS = ["optimizer.lr", "fit.batch_size", "fit.accumulation_steps", "loss"]
QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def browser() -> str | None:
    """Debian's, or one like it."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def a_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", *QUIET])
        yield started.new_page(viewport=SIZE)
        started.close()


def trials_of(address: str, study: str) -> list[Run]:
    """The finished ones, the best first."""
    client = mlflow.MlflowClient(address)
    experiments = [found.experiment_id for found in client.search_experiments()]
    found = client.search_runs(
        experiments,
        f"tags.study = '{study}' and tags.state = 'complete' and tags.trial != ''",
        order_by=["metrics.`best/val_auroc` DESC"],
    )
    return list(found)


def at(address: str, path: str, **query: str) -> str:
    return f"{address}/#{path}?{urlencode(query, quote_via=quote)}"


def table(page: Page, address: str, study: str, runs: list[Run]) -> list[str]:
    """Opens the runs of a study in the view that its description links to; returns their names as they stand
    there."""
    view = f"study-{runs[0].data.tags['study_id'][:8]}"
    page.goto(f"{address}/#{runs_path(runs[0].info.experiment_id, view)}")
    page.get_by_text(runs[0].info.run_name, exact=True).first.wait_for()
    close_assistant(page)
    return page.get_by_role("link").filter(has_text=f"{study}-").all_inner_texts()


def compare(page: Page, address: str, runs: list[Run]) -> None:
    """Opens the parallel coordinates of the study's parameters and the best AUROC."""
    ids = json.dumps([run.info.run_id for run in runs])
    page.goto(at(address, "/compare-runs", runs=ids, experiments=json.dumps([runs[0].info.experiment_id])))
    page.get_by_role("button", name="Clear All").click()
    boxes = page.get_by_role("combobox")
    for box, names in ((boxes.nth(0), PARAMETERS), (boxes.nth(1), ["best/val_auroc"])):
        for name in names:
            box.click()
            box.fill(name)
            page.get_by_title(name, exact=True).last.click()
            page.keyboard.press("Escape")
    page.locator(".js-plotly-plot").first.wait_for()


def overview(page: Page, address: str, experiment_id: str, names: list[str]) -> None:
    """Opens the table of runs at the address that a training prints."""
    page.goto(f"{address}/#{runs_path(experiment_id)}")
    for name in names:
        page.get_by_text(name, exact=True).first.wait_for()
    close_assistant(page)
    page.get_by_role("columnheader", name="test/auroc").first.wait_for()


def all_curves(page: Page, address: str, experiment_id: str) -> None:
    """Opens the learning curves of all runs."""
    page.goto(f"{address}/#{runs_path(experiment_id)}&compareRunsMode=CHART")
    page.get_by_text("train/loss vs val/loss").first.wait_for()
    page.locator(".js-plotly-plot .scatterlayer .trace").nth(2).wait_for()
    page.mouse.move(0, 0)


def close_assistant(page: Page) -> None:
    """MLflow opens it when a browser comes for the first time."""
    close = page.locator("button[aria-label='Close']")
    if close.count():
        close.first.click()


def curves(page: Page, address: str, run: Run) -> None:
    """Opens a run's metrics by epoch."""
    page.goto(at(address, f"/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics"))
    page.get_by_placeholder("Search metric charts").fill("^(val/(auroc|loss|auprc)|train/(loss|accuracy))$")
    page.get_by_text(re.compile(r"^best \(\d+\)$")).wait_for(state="hidden")
    page.locator(".js-plotly-plot .scatterlayer .trace").nth(4).wait_for()
    page.mouse.move(0, 0)


def main(address: str, study: str, folder: Path) -> None:
    runs = trials_of(address, study)
    with a_page() as page:
        table(page, address, study, runs)
        page.screenshot(path=folder / "mlflow-study.png")
        compare(page, address, runs)
        page.screenshot(path=folder / "mlflow-parallel.png")
        curves(page, address, runs[0])
        page.screenshot(path=folder / "mlflow-curves.png")


def of_runs(address: str, folder: Path) -> None:
    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("pneumo")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    with a_page() as page:
        names = [run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags]
        overview(page, address, experiment.experiment_id, names)
        page.screenshot(path=folder / "mlflow-runs.png")
        all_curves(page, address, experiment.experiment_id)
        page.screenshot(path=folder / "mlflow-compare.png")


if __name__ == "__main__":
    address, *study, folder = sys.argv[1:]
    if study:
        main(address, study[0], Path(folder))
    else:
        of_runs(address, Path(folder))
