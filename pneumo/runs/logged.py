"""What a run logs to MLflow as a metric, what as a parameter, and what into results.json alone.

MLflow draws a chart of every metric and compares runs by all of them. So a metric is what changes from epoch
to epoch, or what runs are ranked by; what is known before the first epoch is a parameter; and every value is
in results.json. Earlier versions logged all of them as metrics, and `values_of` reads either."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pneumo.data.dataset import Dataset
    from pneumo.runs.experiment import Experiment
    from pneumo.runs.results import SplitResult
    from pneumo.training.state import TrainState
    from pneumo.training.trainer import Trainer

RESULTS = "results.json"
SUMMARY = ("best/val_auroc", "best/val_loss", "best/epoch", "fit_seconds")
CONSTANTS = (
    *("effective_batch", "processes", "resolved_lr", "trainable_parameters"),
    *("normalise_mean", "normalise_std"),
)
SPLITS = "split/"  # beginning of the constants of the splits
THRESHOLD = "threshold"  # a tag, since a run that is resumed after its last epoch chooses it again


def constants(
    experiment: "Experiment", dataset: "Dataset", trainer: "Trainer", train_state: "TrainState"
) -> dict[str, float]:
    """What follows from the settings and the data before the first epoch, by name; logged as parameters."""
    return {
        **dataset.split.numbers,
        "effective_batch": trainer.effective_batch,
        "processes": trainer.processes.count,
        "resolved_lr": experiment.optimizer.resolved_lr(trainer.effective_batch),
        "trainable_parameters": sum(p.numel() for p in train_state.model.parameters() if p.requires_grad),
        "normalise_mean": trainer.normalise.mean,
        "normalise_std": trainer.normalise.std,
    }


def is_constant(name: str) -> bool:
    """Whether a parameter in MLflow is one of `constants`, and no setting of the run."""
    return name in CONSTANTS or name.startswith(SPLITS)


def summary_metrics(metrics: Mapping[str, float], objectives: Sequence[str] = ()) -> dict[str, float]:
    """Those metrics of a whole training that MLflow shows: a few, and the best of what a study optimizes."""
    shown = {*SUMMARY, *(f"best/{name.replace('/', '_')}" for name in objectives)}
    return {name: value for name, value in metrics.items() if name in shown}


def values_of(run: "Run") -> dict[str, float]:
    """The last value of each metric of a run and its constants, by name."""
    data = run.data
    given = {name: float(value) for name, value in data.params.items() if is_constant(name)}
    chosen = {THRESHOLD: float(data.tags[THRESHOLD])} if THRESHOLD in data.tags else {}
    return {**given, **data.metrics, **chosen}


def results_json(
    training: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    results: "Mapping[str, SplitResult]",
) -> str:
    """All values of a finished run: the metrics of the training, of its epochs, and of each split with 95%
    intervals; null where a value is not finite."""
    content = {
        "training": training,
        "epochs": history,
        "splits": {
            split: {
                "threshold": result.threshold,
                "metrics": result.metrics,
                "intervals": {name: list(ends) for name, ends in result.intervals.items()},
            }
            for split, result in results.items()
        },
    }
    return json.dumps(finite(content), indent=1)


def finite(value: Any) -> Any:
    """The same nested values with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metrics_in(results: str) -> dict[str, float]:
    """The metrics in a results.json by the names that MLflow has, or would have, for them: best/val_f1,
    test/f1, test/f1_low, ..."""
    content = json.loads(results)
    named: dict[str, float | None] = dict(content["training"])
    if test := content["splits"].get("test"):
        named |= {f"test/{name}": value for name, value in test["metrics"].items()}
        for name, (low, high) in test["intervals"].items():
            named |= {f"test/{name}_low": low, f"test/{name}_high": high}
    return {name: value for name, value in named.items() if value is not None}
