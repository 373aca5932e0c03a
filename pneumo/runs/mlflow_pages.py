"""What MLflow's pages show at first sight: the columns and charts of an experiment, and descriptions."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pneumo.display.format import decimal, with_interval

if TYPE_CHECKING:
    from pneumo.data.dataset import Dataset
    from pneumo.runs.experiment import Experiment
    from pneumo.runs.results import SplitResult
    from pneumo.training.state import TrainState

DESCRIPTION = "mlflow.note.content"  # the tag of a run or an experiment whose Markdown MLflow shows
KIND = {"mlflow.experimentKind": "custom_model_development"}  # not one of generative AI
VIEW = "pneumo"  # the name of the shared view
SHARED_VIEW = "mlflow.sharedViewState."  # and the name of the view: a tag of an experiment
VIEW_TAG = f"{SHARED_VIEW}{VIEW}"
MODEL_TRAINING = "workflowType=machine_learning"  # else MLflow opens its pages for generative AI
RUN_NAME, CREATED, DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"  # of MLflow's table
COLUMNS = {  # of the table of runs -> width in pixels
    "metrics.`best/val_auroc`": 125,
    "metrics.`test/auroc`": 110,
    "params.`model`": 100,
    "params.`loss`": 100,
    "params.`optimizer.lr`": 105,
    "attributes.`Dataset`": 200,
    "attributes.`Description`": 420,
}
CURVES = {"AUROC": ("val/auroc",), "loss": ("train/loss", "val/loss"), "learning rate": ("lr",)}


def view_state() -> str:
    """The shared view of an experiment."""
    charts = {f"curves-{title}": line_chart(title, metrics) for title, metrics in CURVES.items()}
    return state_of(COLUMNS, charts, orderByKey="attributes.start_time", orderByAsc=False)


def study_view_state(runs: str, metric: str, is_minimised: bool, parameters: Sequence[str]) -> str:
    """The shared view of a study: its `runs`, as a filter of MLflow, the best first, with the parameters that
    it searches, and their parallel coordinates above the learning curves."""
    parallel = {
        "type": "PARALLEL",
        "displayName": "parallel coordinates",
        "selectedParams": list(parameters),
        "selectedMetrics": [metric],
        "showAllRuns": True,
    }
    charts = {f"curves-{title}": line_chart(title, metrics) for title, metrics in CURVES.items()}
    columns = {f"metrics.`{metric}`": 125, **{f"params.`{name}`": 120 for name in parameters}}
    columns["tags.`state`"] = 100
    order = {"orderByKey": f"metrics.`{metric}`", "orderByAsc": is_minimised}
    return state_of(columns, {"parallel": parallel, **charts}, searchFilter=runs, **order)


def line_chart(title: str, metrics: Sequence[str]) -> dict[str, Any]:
    """Metrics by epoch, in MLflow's terms."""
    return {
        "type": "LINE",
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "displayName": title,
        "xAxisKey": "step",
        "useGlobalXaxisKey": True,
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": True,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "selectedYAxisMetricKey": "",
        "yAxisExpressions": [],
        "displayPoints": True,
        "range": {},
    }


def state_of(columns: Mapping[str, int], charts: Mapping[str, dict[str, Any]], **facets: Any) -> str:
    """A shared view as JSON, in the form in which MLflow stores those of its Share button. `columns` maps to
    widths in pixels, `charts` are by their ids, `facets` say which runs there are and in which order."""
    section = {"uuid": "curves", "name": "curves", "display": True, "isReordered": True, "deleted": False}
    placed = {"metricSectionId": "curves", "isGenerated": False, "deleted": False}
    return json.dumps(
        {
            **facets,
            "selectedColumns": list(columns),
            "columnOrder": [RUN_NAME, CREATED, *columns, DURATION],
            "columnWidths": columns,
            "compareRunCharts": [{**chart, "uuid": uuid, **placed} for uuid, chart in charts.items()],
            "compareRunSections": [{**section, "isGenerated": False}],
            "isAccordionReordered": True,
        }
    )


def experiment_tags(experiment_id: str) -> dict[str, str]:
    """The tags of an experiment that its pages need."""
    return {
        **KIND,
        VIEW_TAG: view_state(),
        DESCRIPTION: "Trainings of pneumothorax detectors by pneumo. "
        f"[Table of runs with their AUROCs](#{runs_path(experiment_id)}) · "
        f"[learning curves](#{charts_path(experiment_id)})",
    }


def runs_path(experiment_id: str, view: str = VIEW) -> str:
    """The path of the table of runs in a shared view, after the # of MLflow's address."""
    return f"/experiments/{experiment_id}/runs?{MODEL_TRAINING}&viewStateShareKey={view}"


def charts_path(experiment_id: str, view: str = VIEW) -> str:
    """The path of the charts of a shared view, after the # of MLflow's address."""
    return f"{runs_path(experiment_id, view)}&compareRunsMode=CHART"


def file_link(run_id: str, path: str) -> str:
    """Where MLflow serves a file among a run's artifacts, from within its pages."""
    return f"get-artifact?path={quote(path)}&run_uuid={run_id}"


def run_path(experiment_id: str, run_id: str) -> str:
    """The path of a run's page, after the # of MLflow's address."""
    return f"/experiments/{experiment_id}/runs/{run_id}?{MODEL_TRAINING}"


def run_description(
    experiment: "Experiment",
    dataset: "Dataset",
    train_state: "TrainState",
    results: "Mapping[str, SplitResult] | None" = None,
) -> str:
    """What a run trains on which images, its result once there is one, and its command."""
    choices, images = experiment.choices, len(dataset.split.train)
    text = (
        f"{choices['model']} with {choices['loss']} on {images:,} training images of {choices['data']} at "
        f"{experiment.data.image_side_px} px."
    )
    if results:
        number, history = train_state.best_epoch, train_state.history
        best = decimal(history[number - 1]["val/auroc"])
        text += f" Validation AUROC {best} in epoch {number} of {len(history)}"
        if test := results.get("test"):
            text += f", test AUROC {with_interval(test.metrics['auroc'], test.intervals['auroc'])}"
        text += "."
    return f"{text}\n\n`{shlex.join(['python', 'train.py', *experiment.overrides])}`"
