"""What the 2024 report printed, character for character."""

from dataclasses import dataclass

SPLITS = {"train": 8440, "val": 1798, "test": 1809}  # images
IMAGES = sum(SPLITS.values())
SIIM_POSITIVES = 2669  # of the 12,047 images of SIIM-ACR, which is what it used


@dataclass(frozen=True)
class Row:
    """One line of its tables; figures as they stand there."""

    experiment: str  # ours of the same recipe
    title: str
    accuracy: str
    precision: str
    recall: str
    f1: str
    roc_auc: str
    seconds: float
    clock: str
    epochs: int | None  # None: not said

    @property
    def metrics(self) -> dict[str, str]:
        """By the names that they have here; its "ROC-AUC" is a `hard_auroc`."""
        return {
            "accuracy": self.accuracy,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "hard_auroc": self.roc_auc,
        }


ROWS = (
    Row(
        experiment="report_finetune",
        title="last layer alone, 20 epochs",
        accuracy="0.7511",
        precision="0.3491",
        recall="0.1598",
        f1="0.2192",
        roc_auc="0.5382",
        seconds=13040.91,
        clock="03:37:20",
        epochs=20,
    ),
    Row(
        experiment="report_raw",
        title="not normalised, 50 epochs",
        accuracy="0.7808",
        precision="0.4892",
        recall="0.04929",
        f1="0.08956",
        roc_auc="0.5174",
        seconds=98870.64,
        clock="27:27:50",
        epochs=50,
    ),
    Row(
        experiment="report_normalised",
        title="normalised, 50 epochs",
        accuracy="0.7818",
        precision="1.0",
        recall="0.0027",
        f1="0.0054",
        roc_auc="0.5013",
        seconds=117413.87,
        clock="32:36:53",
        epochs=50,
    ),
    Row(
        experiment="report_plateau",
        title="early stopping and plateau, patience 5",
        accuracy="0.7774",
        precision="0.4502",
        recall="0.0807",
        f1="0.1369",
        roc_auc="0.5266",
        seconds=41664.34,
        clock="11:34:24",
        epochs=None,
    ),
    Row(
        experiment="report_tta",
        title="test-time augmentation",
        accuracy="0.7683",
        precision="0.0",
        recall="0.0",
        f1="0.0",
        roc_auc="0.5",
        seconds=1473.14,
        clock="00:24:33",
        epochs=None,
    ),
)
WITHOUT_A_ROW = ("report_bce", "report_accumulate", "report_enhanced")
EXPERIMENTS = (*(row.experiment for row in ROWS), *WITHOUT_A_ROW)
FIGURES = {"report_normalised": 3, "report_plateau": 4, "report_enhanced": 5}  # whose curves it shows


def row_of(experiment: str) -> Row | None:
    return next((row for row in ROWS if row.experiment == experiment), None)
