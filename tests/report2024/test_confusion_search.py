"""The confusion matrices behind printed metrics."""

from decimal import ROUND_DOWN, ROUND_HALF_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pneumo.report2024 import decoded as decoded_tables
from pneumo.report2024.confusion_search import matching_matrices, ruled_out
from pneumo.report2024.published import IMAGES, ROWS, SPLITS

KNOWN = {  # split, positives, true positives, false positives
    "report_finetune": ("train", 1846, 295, 550),
    "report_raw": ("train", 1846, 91, 95),
    "report_normalised": ("train", 1846, 5, 0),
    "report_plateau": ("train", 1846, 149, 182),
    "report_tta": ("test", 419, 0, 0),
}
BY_HAND = {"cut off": ROUND_DOWN, "rounded": ROUND_HALF_EVEN}


@pytest.fixture(scope="module")
def reading():
    return decoded_tables.decode_tables()


def key(matrix):
    return matrix.split, matrix.positives, matrix.tp, matrix.fp


def exact_metrics(images, positives, tp, fp):
    """Exact, from the textbook."""
    negatives, fn = images - positives, positives - tp
    tn = negatives - fp
    return {
        "accuracy": Fraction(tp + tn, images),
        "precision": Fraction(tp, tp + fp) if tp + fp else Fraction(0),
        "recall": Fraction(tp, positives),
        "f1": Fraction(2 * tp, 2 * tp + fp + fn),
        "hard_auroc": (Fraction(tp, positives) + Fraction(tn, negatives)) / 2,
    }


def printed(values, rounding):
    """Four digits, trailing zeros gone, as Python prints them."""
    texts = {}
    for name, value in values.items():
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        texts[name] = str(float(exact.quantize(Decimal("0.0001"), rounding)))
    return texts


def prints_like(values, row):
    """All cut off; or all rounded, half a digit up or down."""
    cut, up, down = (printed(values, rounding) for rounding in (ROUND_DOWN, ROUND_HALF_UP, ROUND_HALF_DOWN))
    return cut == row or all(row[name] in (up[name], down[name]) for name in row)


def test_four_rows_are_the_training_split_and_one_the_test_split(reading):
    assert {name: key(one) for name, one in reading.matrices.items()} == KNOWN


def test_the_positives_of_the_splits_add_up_to_siim_acr(reading):
    assert reading.positives == {"train": 1846, "val": 404, "test": 419}
    assert sum(SPLITS.values()) == IMAGES == 12047


def test_what_else_would_print_the_same_is_kept_and_ruled_out(reading):
    others = {
        key(one): ruled_out(one, {"all": 2669, "train": 1846})
        for row, those in reading.found.items()
        for one in those
        if one != reading.matrices[row]
    }
    assert set(others) == {("all", 2635, 421, 785), ("train", 1955, 0, 0), ("all", 2791, 0, 0)}
    assert all(others.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.experiment)
def test_scikit_learn_prints_the_row_from_its_matrix(row, reading):
    one = reading.matrices[row.experiment]
    labels = np.repeat([1, 1, 0, 0], [one.tp, one.fn, one.fp, one.tn])
    answers = np.repeat([1, 0, 1, 0], [one.tp, one.fn, one.fp, one.tn])
    scores = {
        "accuracy": metrics.accuracy_score(labels, answers),
        "precision": metrics.precision_score(labels, answers, zero_division=0),
        "recall": metrics.recall_score(labels, answers),
        "f1": metrics.f1_score(labels, answers),
        "hard_auroc": metrics.roc_auc_score(labels, answers),  # of 0/1 answers
    }
    for name, text in row.metrics.items():
        assert abs(scores[name] - float(text)) < 10 ** -max(4, len(text) - 2), name


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_search_finds_exactly_what_trying_every_matrix_finds(data):
    images = data.draw(st.integers(2, 14))
    positives = data.draw(st.integers(1, images - 1))
    tp = data.draw(st.integers(0, positives))
    fp = data.draw(st.integers(0, images - positives))
    printing = data.draw(st.sampled_from(list(BY_HAND)))
    row = printed(exact_metrics(images, positives, tp, fp), BY_HAND[printing])
    tried = {
        ("here", p, t, f)
        for p in range(1, images)
        for t in range(p + 1)
        for f in range(images - p + 1)
        if prints_like(exact_metrics(images, p, t, f), row)
    }
    assert {key(one) for one in matching_matrices(row, {"here": images})} == tried
    assert ("here", positives, tp, fp) in tried


def test_metrics_that_no_matrix_has_are_found_nowhere():
    row = dict(ROWS[0].metrics, accuracy="0.9")
    assert matching_matrices(row, SPLITS) == []
