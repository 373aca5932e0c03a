"""How every metric is called, on every page, table and plot and in the terminal.

To add a metric that is shown everywhere: compute it, with its key, in `metrics.all_metrics`, and name the key
in METRICS below. Its bootstrap interval, the terminal's table, MLflow's metrics, the page of `pneumo
evaluate` and the model card follow from these two. (Metrics that only an evaluation has are in `results`.)"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pneumo.evaluation.metrics import LEVELS, PREVALENCES

Kind = Literal["ranking", "threshold", "calibration"]  # of scores; of calls at a threshold; of probabilities


@dataclass(frozen=True)
class MetricName:
    """`title` is used by tables, pages and plots, `short` by the narrow table in the terminal (empty: the
    title); `note` follows the title in brackets where there is room for it."""

    kind: Kind
    title: str
    short: str = ""
    note: str = ""

    @property
    def in_terminal(self) -> str:
        return self.short or self.title

    @property
    def with_note(self) -> str:
        return f"{self.title} ({self.note})" if self.note else self.title


METRICS = {  # key -> name, in the order in which pages show them
    "auroc": MetricName("ranking", "AUROC"),
    "auprc": MetricName("ranking", "AUPRC"),
    **{
        f"sensitivity_at_{level}_specificity": MetricName(
            "ranking", f"sensitivity at {level}% specificity", f"sensitivity at {level}% spec."
        )
        for level in LEVELS
    },
    **{
        f"specificity_at_{level}_sensitivity": MetricName("ranking", f"specificity at {level}% sensitivity")
        for level in LEVELS
    },
    "recall": MetricName("threshold", "sensitivity", "recall (sensitivity)"),
    "specificity": MetricName("threshold", "specificity"),
    "precision": MetricName("threshold", "precision", note="PPV in these images"),
    **{f"ppv_at_{p}": MetricName("threshold", f"PPV where {p}% are positive") for p in PREVALENCES},
    **{f"npv_at_{p}": MetricName("threshold", f"NPV where {p}% are positive") for p in PREVALENCES},
    "f1": MetricName("threshold", "F1"),
    "accuracy": MetricName("threshold", "accuracy"),
    "hard_auroc": MetricName(
        "threshold", "hard AUROC", "hard AUROC *", "of the 0/1 predictions: says nothing of the ranking"
    ),
    "brier": MetricName("calibration", "Brier score", note="0 is best"),
    "ece": MetricName("calibration", "ECE, ten bins of equal mass", note="0 is best"),
    "slope": MetricName("calibration", "calibration slope", note="1 is best"),
    "intercept": MetricName("calibration", "calibration intercept", note="0 is best"),
}


def title(key: str) -> str:
    """The title of a metric; the key itself of what has none, as a loss."""
    return METRICS[key].title if key in METRICS else key


def of_kind(kind: Kind, keys: Iterable[str]) -> Iterator[tuple[str, MetricName]]:
    """Those of `keys` that are of a kind, in the order of METRICS."""
    present = set(keys)
    return ((key, name) for key, name in METRICS.items() if name.kind == kind and key in present)
