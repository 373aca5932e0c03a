"""What the report printed, and what its own digits give away."""

from collections.abc import Mapping
from dataclasses import dataclass

from pneumo.display.format import decimal
from pneumo.display.pages import Section
from pneumo.report2024.confusion_search import Matrix, matching_matrices, ruled_out, shared_positives
from pneumo.report2024.published import IMAGES, ROWS, SIIM_POSITIVES, SPLITS

ALL = "all"


@dataclass(frozen=True)
class DecodedTables:
    """Every matrix found, by experiment; the one of each that is not ruled out; positives by split."""

    found: Mapping[str, list[Matrix]]
    matrices: Mapping[str, Matrix]
    positives: Mapping[str, int]


def decode_tables() -> DecodedTables:
    """About half a second."""
    found = {row.experiment: matching_matrices(row.metrics, {**SPLITS, ALL: IMAGES}) for row in ROWS}
    known = {ALL: SIIM_POSITIVES, **dict([shared_positives(found.values())])}
    left = {name: [one for one in those if not ruled_out(one, known)] for name, those in found.items()}
    matrices = {name: those[0] for name, those in left.items() if len(those) == 1}
    positives = {one.split: one.positives for one in matrices.values()}
    (rest,) = SPLITS.keys() - positives.keys()
    return DecodedTables(found, matrices, positives | {rest: SIIM_POSITIVES - sum(positives.values())})


def as_printed() -> Section:
    columns = ["run", "accuracy", "precision", "recall", "F1", '"ROC-AUC"', "seconds", "h:mm:ss"]
    rows = [
        [row.title, row.accuracy, row.precision, row.recall, row.f1, row.roc_auc, f"{row.seconds}", row.clock]
        for row in ROWS
    ]
    sizes = " / ".join(f"{images:,}" for images in SPLITS.values())
    text = f"Digit for digit. Train / val / test: {sizes} images, {IMAGES:,} in all. It names no split."
    return Section("The report's table, as printed", [text], columns, rows)


def counts(reading: DecodedTables) -> Section:
    """The confusion matrix behind each row."""
    rows = []
    for row in ROWS:
        one = reading.matrices[row.experiment]
        split = f"{one.split}, {one.images:,} images"
        numbers = [f"{count:,}" for count in (one.positives, one.tp, one.fp, one.fn, one.tn)]
        rates = [decimal(one.sensitivity), decimal(one.specificity)]
        rows.append([row.title, split, *numbers, *rates, one.printing])
    on_train = sum(one.split == "train" for one in reading.matrices.values())
    train, test = reading.positives["train"], reading.positives["test"]
    text = [
        "Every confusion matrix of every split, with any number of positives, was asked whether its five "
        "figures print like a row's: all cut off, or all rounded, to the digits that stand there.",
        f"{on_train} of {len(ROWS)} rows can only be its own training split, with {train:,} positives of "
        f"{SPLITS['train']:,}. Those runs had not learned the images they were trained on: underfitting, "
        "where the report concluded overfitting. Only test-time augmentation is the test split, all "
        "answered with no.",
        f"It adds up: {train:,} + {test:,} leave {reading.positives['val']:,} positives of "
        f"{SPLITS['val']:,} for validation, {SIIM_POSITIVES:,} in all, which is what SIIM-ACR has.",
    ]
    columns = ["run", "measured on", "positives", "found", "false alarms", "missed", "rightly none"]
    columns += ["sensitivity", "specificity", "its digits are"]
    return Section("The counts behind its figures", text, columns, rows)


def alternatives(reading: DecodedTables) -> Section:
    known = {ALL: SIIM_POSITIVES, "train": reading.positives["train"]}
    rows = [
        [
            row.title,
            f"{one.split}, {one.images:,} images",
            *(f"{count:,}" for count in (one.positives, one.tp, one.fp)),
            one.printing,
            ruled_out(one, known) or "",
        ]
        for row in ROWS
        for one in reading.found[row.experiment]
        if one != reading.matrices[row.experiment]
    ]
    text = (
        f"Found by the same search, over train, val, test and all {IMAGES:,} images together. Each is ruled "
        "out by what the other rows or SIIM-ACR's own count say; nothing else prints these digits."
    )
    columns = ["run", "measured on", "positives", "found", "false alarms", "its digits would be", "why not"]
    return Section("Other matrices that would print the same", [text], columns, rows)


def hard_auroc(reading: DecodedTables) -> Section:
    rows = []
    for row in ROWS:
        one = reading.matrices[row.experiment]
        half = (one.sensitivity + one.specificity) / 2
        rates = [decimal(one.sensitivity, 4), decimal(one.specificity, 4), decimal(half, 5)]
        rows.append([row.title, *rates, row.roc_auc])
    text = (
        'Its "ROC-AUC" is the area under a ROC of the 0/1 answers: (sensitivity + specificity) / 2, in '
        "every row, to the digit. A model that answers no to everything gets .5, however well it ranks. It "
        "says nothing of the ranking; here it is called hard AUROC and stands beside the AUROC of the scores."
    )
    columns = ["run", "sensitivity", "specificity", "half their sum", 'printed "ROC-AUC"']
    return Section('Why its "ROC-AUC" is what it is', [text], columns, rows)
