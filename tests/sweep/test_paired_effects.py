"""Paired effects against hand-worked cases and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pneumo.sweep.design.paired_effects import holm, paired, ratio

values = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12)


def test_a_hand_worked_effect():
    effect = paired([0.5, 0.6, 0.7], [0.6, 0.8, 1.0])  # differences .1 .2 .3: mean .2, sd .1
    assert effect.mean == pytest.approx(0.2)
    assert effect.high - effect.mean == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)
    assert effect.verdict() == "no evidence"


@given(values)
def test_the_interval_is_that_of_a_paired_t_test(pairs):
    before, after = map(np.array, zip(*pairs, strict=True))
    if np.ptp(after - before) < 1e-6:
        return
    effect, reference = paired(before, after), stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((reference.low, reference.high))
    assert effect.p == pytest.approx(stats.ttest_rel(after, before).pvalue)
    assert (effect.verdict() != "no evidence") == (effect.p < 0.05)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [([0.9, 0.91, 0.92], "helps"), ([0.1, 0.11, 0.12], "hurts"), ([0.9], "not known yet")],
)
def test_a_verdict_needs_an_interval_without_zero(after, verdict):
    assert paired([0.5, 0.5, 0.5][: len(after)], after).verdict() == verdict


def test_nothing_is_known_of_no_pairs():
    assert paired([], []).n == 0
    assert np.isnan(paired([], []).mean)


def test_the_smallest_effect_is_found_in_four_of_five_experiments():
    random = np.random.default_rng(0)
    differences = random.normal(0, 1, (4000, 5))
    smallest = (stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)) / np.sqrt(5)
    assert paired(np.zeros(5), differences[0]).smallest == pytest.approx(
        smallest * differences[0].std(ddof=1)
    )
    found = [paired(np.zeros(5), row + smallest).low > 0 for row in differences]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_a_ratio_is_taken_of_logarithms():
    effect = ratio([10, 20, 40], [20, 40, 80])
    assert (effect.mean, effect.low, effect.high) == pytest.approx((2, 2, 2))


def test_a_ratio_is_judged_against_one():
    assert ratio([10, 20, 40], [19, 41, 80]).verdict(1, "costs", "saves") == "costs"
    assert ratio([10, 20, 40], [5, 11, 20]).verdict(1, "costs", "saves") == "saves"
    assert ratio([10, 20, 40], [11, 18, 41]).verdict(1, "costs", "saves") == "no evidence"


def test_equal_differences_are_certain_and_none_at_all_are_no_evidence():
    assert paired([1.0, 2, 3], [2.0, 3, 4]).p == 0
    assert paired([1.0, 2, 3], [1.0, 2, 3]).p == 1
    assert np.isnan(paired([1.0], [2.0]).p)


def test_holm_by_hand():
    # sorted .01 .03 .04 times 3 2 1: .03 .06 .04, none below the one before it: .03 .06 .06
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_what_is_not_known_does_not_count_for_holm():
    assert holm([0.02, np.nan, 0.04]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_holm_is_r_s():
    # ten p values and R's multtest, as in statsmodels' tests of multiple testing
    p = [0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238]
    p += [0.177096952723, 5.23656777208e-5, 0.0202732688798, 0.00028140506198, 0.0149877310796]
    adjusted = [1, 1, 1, 1, 1, 1, 5.23656777208e-4, 0.1419128821586, 2.5326455578e-3, 0.1199018486368]
    assert holm(p) == pytest.approx(adjusted, rel=1e-9)
