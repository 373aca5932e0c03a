"""The tables of the 2024 report, character for character."""

from dataclasses import dataclass

SPLITS = {"train": 8440, "val": 1798, "test": 1809}  # images
IMAGES = sum(SPLITS.values())
SIIM_POSITIVES = 2669  # of the 12,047 images of SIIM-ACR, which is the data set of the report
PRINTED = """\
report_finetune 0.7511 0.3491 0.1598 0.2192 0.5382 13040.91 03:37:20 20 last layer alone, 20 epochs
report_raw 0.7808 0.4892 0.04929 0.08956 0.5174 98870.64 27:27:50 50 not normalised, 50 epochs
report_normalised 0.7818 1.0 0.0027 0.0054 0.5013 117413.87 32:36:53 50 normalised, 50 epochs
report_plateau 0.7774 0.4502 0.0807 0.1369 0.5266 41664.34 11:34:24 - early stopping and plateau, patience 5
report_tta 0.7683 0.0 0.0 0.0 0.5 1473.14 00:24:33 - test-time augmentation
"""


@dataclass(frozen=True)
class PublishedRow:
    """One row of the report's tables, every value as the text that is printed there."""

    experiment: str  # the name in conf/experiment of the same recipe
    accuracy: str
    precision: str
    recall: str
    f1: str
    roc_auc: str
    seconds: str
    clock: str  # hours:minutes:seconds
    epochs: str  # - where the report does not give them
    title: str

    @property
    def metrics(self) -> dict[str, str]:
        """The printed metrics under their names in this project, in which its "ROC-AUC" is `hard_auroc`."""
        names = ("accuracy", "precision", "recall", "f1")
        return {name: getattr(self, name) for name in names} | {"hard_auroc": self.roc_auc}


ROWS = tuple(PublishedRow(*line.split(maxsplit=9)) for line in PRINTED.splitlines())
WITHOUT_A_ROW = ("report_bce", "report_accumulate", "report_enhanced")
EXPERIMENTS = (*(row.experiment for row in ROWS), *WITHOUT_A_ROW)
FIGURES = {"report_normalised": 3, "report_plateau": 4, "report_enhanced": 5}  # experiment -> figure number


def row_of(experiment: str) -> PublishedRow | None:
    """The printed row of an experiment; None for those that the report describes without a row."""
    return next((row for row in ROWS if row.experiment == experiment), None)
