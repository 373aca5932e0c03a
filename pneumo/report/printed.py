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
    def figures(self) -> dict[str, str]:
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
        *("report_finetune", "last layer alone, 20 epochs"),
        *("0.7511", "0.3491", "0.1598", "0.2192", "0.5382"),
        *(13040.91, "03:37:20", 20),
    ),
    Row(
        *("report_raw", "not normalised, 50 epochs"),
        *("0.7808", "0.4892", "0.04929", "0.08956", "0.5174"),
        *(98870.64, "27:27:50", 50),
    ),
    Row(
        *("report_normalised", "normalised, 50 epochs"),
        *("0.7818", "1.0", "0.0027", "0.0054", "0.5013"),
        *(117413.87, "32:36:53", 50),
    ),
    Row(
        *("report_plateau", "early stopping and plateau, patience 5"),
        *("0.7774", "0.4502", "0.0807", "0.1369", "0.5266"),
        *(41664.34, "11:34:24", None),
    ),
    Row(
        *("report_tta", "test-time augmentation"),
        *("0.7683", "0.0", "0.0", "0.0", "0.5"),
        *(1473.14, "00:24:33", None),
    ),
)
WITHOUT_A_ROW = ("report_bce", "report_accumulate", "report_enhanced")
EXPERIMENTS = (*(row.experiment for row in ROWS), *WITHOUT_A_ROW)
FIGURES = {"report_normalised": 3, "report_plateau": 4, "report_enhanced": 5}  # whose curves it shows


def row_of(experiment: str) -> Row | None:
    return next((row for row in ROWS if row.experiment == experiment), None)
