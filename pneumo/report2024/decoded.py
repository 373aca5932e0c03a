"""Sections on the report's own table: its rows, and the confusion matrices that they were computed from."""

from collections.abc import Mapping
from dataclasses import dataclass

from pneumo.display.format import decimal
from pneumo.display.pages import Section
from pneumo.report2024.confusion_search import Matrix, matching_matrices, ruled_out, shared_positives
from pneumo.report2024.published import IMAGES, ROWS, SIIM_POSITIVES, SPLITS

ALL = "all"
MATRIX_COLUMNS = ("run", "measured on", "positives", "true positives", "false positives")


@dataclass(frozen=True)
class DecodedTables:
    """`found` has every matching matrix by experiment, `matrices` the one of each that is not ruled out, and
    `positives` the number of positive images of each split."""

    found: Mapping[str, list[Matrix]]
    matrices: Mapping[str, Matrix]
    positives: Mapping[str, int]

    @property
    def n_on_train(self) -> int:
        """Rows that were measured on the training split."""
        return sum(matrix.split == "train" for matrix in self.matrices.values())


def decode_tables() -> DecodedTables:
    """Searches the confusion matrices of all printed rows, in about half a second."""
    found = {row.experiment: matching_matrices(row.metrics, {**SPLITS, ALL: IMAGES}) for row in ROWS}
    known = {ALL: SIIM_POSITIVES, **dict([shared_positives(found.values())])}
    left = {name: [one for one in those if not ruled_out(one, known)] for name, those in found.items()}
    matrices = {name: those[0] for name, those in left.items() if len(those) == 1}
    positives = {one.split: one.positives for one in matrices.values()}
    (rest,) = SPLITS.keys() - positives.keys()
    return DecodedTables(found, matrices, positives | {rest: SIIM_POSITIVES - sum(positives.values())})


def table_section() -> Section:
    columns = ["run", "accuracy", "precision", "recall", "F1", '"ROC-AUC"', "seconds", "h:mm:ss"]
    rows = [
        [row.title, row.accuracy, row.precision, row.recall, row.f1, row.roc_auc, row.seconds, row.clock]
        for row in ROWS
    ]
    sizes = " / ".join(f"{images:,}" for images in SPLITS.values())
    text = (
        f"The digits are those that the report prints. Its training / validation / test splits have {sizes} "
        f"images, {IMAGES:,} in all. It does not state on which split a row was measured."
    )
    return Section("The table of the 2024 report", [text], columns, rows)


def counts_section(tables: DecodedTables) -> Section:
    rows = []
    for row in ROWS:
        matrix = tables.matrices[row.experiment]
        rates = [decimal(matrix.sensitivity), decimal(matrix.specificity)]
        negatives = [f"{count:,}" for count in (matrix.fn, matrix.tn)]
        rows.append([row.title, *counts(matrix), *negatives, *rates, matrix.printing])
    train, test = tables.positives["train"], tables.positives["test"]
    text = [
        "The search tried every confusion matrix of every split, with any number of positives. These are "
        "those whose five metrics are printed like a row: all cut off, or all rounded, to its digits.",
        f"{tables.n_on_train} of {len(ROWS)} rows can only be of the report's own training split, with "
        f"{train:,} positives among {SPLITS['train']:,} images. Those models had not learned the images they "
        "were trained on: they underfitted, where the report concluded overfitting. Only the row of "
        "test-time augmentation is of the test split, and every prediction there is negative.",
        f"The numbers agree with SIIM-ACR: {train:,} + {test:,} leave {tables.positives['val']:,} positives "
        f"among {SPLITS['val']:,} images for validation, {SIIM_POSITIVES:,} in all.",
    ]
    columns = [
        *MATRIX_COLUMNS,
        "false negatives",
        "true negatives",
        "sensitivity",
        "specificity",
        "digits are",
    ]
    return Section("Confusion matrices behind the report's metrics", text, columns, rows)


def counts(matrix: Matrix) -> list[str]:
    """The cells of MATRIX_COLUMNS after the first."""
    numbers = (matrix.positives, matrix.tp, matrix.fp)
    return [f"{matrix.split}, {matrix.images:,} images", *(f"{number:,}" for number in numbers)]


def alternatives_section(tables: DecodedTables) -> Section:
    known = {ALL: SIIM_POSITIVES, "train": tables.positives["train"]}
    rows = [
        [row.title, *counts(matrix), matrix.printing, ruled_out(matrix, known) or ""]
        for row in ROWS
        for matrix in tables.found[row.experiment]
        if matrix != tables.matrices[row.experiment]
    ]
    text = (
        f"The same search over train, val, test and all {IMAGES:,} images together found these as well. The "
        "other rows, or the number of positives of SIIM-ACR, rule each of them out. No other matrix gives "
        "these digits."
    )
    columns = [*MATRIX_COLUMNS, "digits would be", "ruled out because"]
    return Section("Other confusion matrices with the same metrics", [text], columns, rows)


def hard_auroc_section(tables: DecodedTables) -> Section:
    rows = []
    for row in ROWS:
        matrix = tables.matrices[row.experiment]
        mean = (matrix.sensitivity + matrix.specificity) / 2
        rates = [decimal(matrix.sensitivity, 4), decimal(matrix.specificity, 4), decimal(mean, 5)]
        rows.append([row.title, *rates, row.roc_auc])
    text = (
        'The "ROC-AUC" of every row is the area under the ROC curve of the 0/1 predictions, which is '
        "(sensitivity + specificity) / 2, to the digit. A model that predicts negative for every image gets "
        ".5, however well it ranks them: this metric does not measure the ranking. This page calls it hard "
        "AUROC and shows it beside the AUROC of the scores."
    )
    columns = ["run", "sensitivity", "specificity", "their mean", 'printed "ROC-AUC"']
    return Section('How the report computed its "ROC-AUC"', [text], columns, rows)
