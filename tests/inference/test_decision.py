"""From a score to a probability and a call."""

import numpy as np

from pneumo.evaluation.platt import UNSCALED, PlattScaling
from pneumo.inference.decision import Decision


def test_a_probability_is_the_scaled_score_and_a_decision_the_score_at_its_threshold():
    scores = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    flatter, lower = Decision(0.5, PlattScaling(slope=0.5)), Decision(0.5, PlattScaling(intercept=-np.log(9)))
    assert np.allclose(Decision(0.5, UNSCALED).probabilities(scores), scores, atol=1e-6)
    assert np.allclose(flatter.probabilities(scores)[1:4], [0.25, 0.5, 0.75])
    assert np.allclose(lower.probabilities(scores)[1:4], [1 / 82, 0.1, 0.5])
    assert list(lower.of(scores)) == ["negative", "negative", *["positive"] * 3]
