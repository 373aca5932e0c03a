"""What MLflow's pages show at first sight: the columns and charts of an experiment, and descriptions."""

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pneumo.display.format import decimal, with_interval

if TYPE_CHECKING:
    from pneumo.data.dataset import Dataset
    from pneumo.runs.diagnosis import SplitResult
    from pneumo.runs.experiment import Experiment
    from pneumo.training.state import TrainState

DESCRIPTION = "mlflow.note.content"  # the tag of a run or an experiment whose Markdown MLflow shows
KIND = {"mlflow.experimentKind": "custom_model_development"}  # not one of generative AI
VIEW = "pneumo"  # the name of the shared view
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
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
    """The shared view as JSON, in the form in which MLflow stores those of its Share button."""
    section = {"uuid": "curves", "name": "curves", "display": True, "isReordered": True, "deleted": False}
    charts = [
        {
            "type": "LINE",
            "uuid": f"curves-{title}",
            "metricSectionId": "curves",
            "isGenerated": False,
            "deleted": False,
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
        for title, metrics in CURVES.items()
    ]
    return json.dumps(
        {
            "orderByKey": "attributes.start_time",
            "orderByAsc": False,
            "selectedColumns": list(COLUMNS),
            "columnOrder": [RUN_NAME, CREATED, *COLUMNS, DURATION],
            "columnWidths": COLUMNS,
            "compareRunCharts": charts,
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
        f"[learning curves](#{runs_path(experiment_id)}&compareRunsMode=CHART)",
    }


def runs_path(experiment_id: str) -> str:
    """The path of the table of runs with its columns, after the # of MLflow's address."""
    return f"/experiments/{experiment_id}/runs?{MODEL_TRAINING}&viewStateShareKey={VIEW}"


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
