import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from pneumo.components.losses import Bce, Combined, CrossEntropy, Focal, WeightedBce
from pneumo.errors import InputError

SMOOTHING = [
    Bce(label_smoothing=0.2),
    CrossEntropy(label_smoothing=0.1),
    WeightedBce(positive_weight=3.5, label_smoothing=0.15),
]
PROPER = [
    Bce(),
    CrossEntropy(),
    WeightedBce(positive_weight=3.5),
    Focal(),
    Focal(gamma=0.5, alpha=0.75),
    *SMOOTHING,
]


def batch(n_outputs=1, n=40):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, n_outputs, generator=generator), (torch.rand(n, generator=generator) < 0.3).float()


def test_bce_and_ce_are_scikit_learns_log_loss():
    for loss in (Bce(), CrossEntropy()):
        logits, labels = batch(loss.n_outputs)
        expected = log_loss(labels.numpy(), loss.probability(logits).numpy())
        assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_bce_of_a_hand_worked_pair():
    # sigmoid(0) = .5, sigmoid(ln 3) = .75
    logits, labels = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([1.0, 0.0])
    assert float(Bce()(logits, labels)) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_focal_with_zero_gamma_is_cross_entropy():
    logits, labels = batch()
    assert torch.allclose(Focal(gamma=0)(logits, labels), Bce()(logits, labels))
    assert torch.allclose(Focal(gamma=0).probability(logits), Bce().probability(logits))


def test_focal_of_a_hand_worked_image():
    # p = .75: a (1 - p)^2 (-ln p)
    loss = Focal(gamma=2, alpha=0.25)(torch.tensor([[math.log(3)]]), torch.tensor([1.0]))
    assert float(loss) == pytest.approx(0.25 * 0.0625 * -math.log(0.75))


def test_a_positive_weight_counts_positives_that_often():
    logits = torch.tensor([[0.3], [-0.2]])
    weighted = WeightedBce(positive_weight=3)(logits, torch.tensor([1.0, 0.0]))
    positive, negative = (Bce()(logits[i : i + 1], torch.tensor([y])) for i, y in enumerate([1.0, 0.0]))
    assert float(weighted) == pytest.approx(float(3 * positive + negative) / 2)


def test_the_weight_comes_from_the_training_split_unless_given():
    assert WeightedBce().fitted(prevalence=0.2).weight == pytest.approx(4)
    assert WeightedBce(positive_weight=2).fitted(prevalence=0.2).weight == 2


@pytest.mark.parametrize("loss", PROPER, ids=repr)
@pytest.mark.parametrize("p", [0.03, 0.22, 0.5, 0.9])
def test_the_probability_is_the_share_of_positives_where_the_loss_is_least(loss, p):
    logit = torch.linspace(-8, 8, 16001)
    logits = logit[:, None] if loss.n_outputs == 1 else torch.stack([-logit / 2, logit / 2], dim=1)
    one, zero = torch.ones(1), torch.zeros(1)
    expected = [p * loss(row[None], one) + (1 - p) * loss(row[None], zero) for row in logits[::40]]
    at = logits[::40][int(torch.stack(expected).argmin())]
    assert float(loss.probability(at[None])) == pytest.approx(p, abs=0.012)


@pytest.mark.parametrize("loss", [*PROPER, Combined()], ids=repr)
def test_a_higher_logit_is_a_higher_probability(loss):
    logit = torch.linspace(-30, 30, 601)
    logits = logit[:, None] if loss.n_outputs == 1 else torch.stack([-logit / 2, logit / 2], dim=1)
    probability = loss.probability(logits)
    assert (probability.diff() >= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (probability[200:400].diff() > 0).all()


def test_combined_is_half_bce_and_half_soft_dice():
    # p = .75 and .25, labels 1 and 0: dice = (2 * .75 + 1) / (1 + 1 + 1)
    logits, labels = torch.tensor([[math.log(3)], [-math.log(3)]]), torch.tensor([1.0, 0.0])
    expected = 0.5 * -math.log(0.75) + 0.5 * (1 - 2.5 / 3)
    assert float(Combined()(logits, labels)) == pytest.approx(expected)


def test_smoothing_moves_targets_towards_a_half():
    logits = torch.tensor([[0.4]])
    smoothed = Bce(label_smoothing=0.2)(logits, torch.tensor([1.0]))
    mixed = 0.9 * Bce()(logits, torch.tensor([1.0])) + 0.1 * Bce()(logits, torch.tensor([0.0]))
    assert float(smoothed) == pytest.approx(float(mixed))
    two = torch.tensor([[-0.2, 0.2]])
    assert float(CrossEntropy(label_smoothing=0.2)(two, torch.tensor([1.0]))) == pytest.approx(float(mixed))


@pytest.mark.parametrize("loss", SMOOTHING, ids=repr)
@pytest.mark.parametrize("p", [0.001, 0.01, 0.3, 0.999])
def test_smoothing_is_undone_in_the_probability_as_the_weight_is(loss, p):
    q = p * (1 - loss.label_smoothing) + loss.label_smoothing / 2  # the mean of the smoothed targets
    logit = math.log(q / (1 - q)) + math.log(getattr(loss, "positive_weight", 1))
    logits = torch.tensor([[logit]] if loss.n_outputs == 1 else [[1.0, 1.0 + logit]], dtype=torch.float64)
    assert float(loss.probability(logits)) == pytest.approx(p, abs=1e-9)


@given(st.floats(0, 0.9), st.lists(st.floats(-15, 15), min_size=2, max_size=8))
def test_undoing_smoothing_keeps_every_answer_between_0_and_1_and_in_its_order(smoothing, values):
    logits = torch.tensor(sorted(values), dtype=torch.float64)[:, None]
    p = Bce(label_smoothing=smoothing).probability(logits)
    assert ((p > 0) & (p < 1)).all()
    steps = logits[:, 0].diff()
    assert (p.diff()[steps > 1e-6] > 0).all()
    assert (p.diff() >= -1e-15).all()


def test_without_smoothing_the_probability_is_the_sigmoid_to_the_last_bit():
    logits, _ = batch()
    assert torch.equal(Bce().probability(logits), logits[:, 0].double().sigmoid())


def test_the_loss_of_a_split_is_the_mean_over_batches_where_it_depends_on_the_batch():
    # every p = .5 and every label 1: dice is (2 * 2 + 1) / (2 + 4 + 1) of four images and 3 / 4 of two
    logits, labels = torch.zeros(10, 1), torch.ones(10)
    dice = Combined(dice_weight=0.999999)
    assert float(dice.of_many(logits, labels, batch_size=4)) == pytest.approx(
        (8 * (1 - 5 / 7) + 2 * (1 - 3 / 4)) / 10, abs=1e-5
    )
    assert float(Bce().of_many(logits, labels, batch_size=4)) == float(Bce()(logits, labels))


@pytest.mark.parametrize("loss", [*PROPER, Combined()], ids=repr)
def test_losses_stay_finite_at_extreme_logits(loss):
    logits = torch.tensor([[-200.0], [200.0]]).expand(2, loss.n_outputs) * torch.tensor(
        [1.0] if loss.n_outputs == 1 else [-1.0, 1.0]
    )
    for labels in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])):
        assert np.isfinite(float(loss(logits, labels)))
    assert torch.isfinite(loss.probability(logits)).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Bce(label_smoothing=1.0), "loss.label_smoothing must be at least 0 and below 1, got 1.0"),
        (lambda: Focal(gamma=-1), "loss.gamma must be at least 0, got -1"),
        (lambda: Focal(alpha=1.5), "loss.alpha must be above 0 and below 1, or null, got 1.5"),
        (lambda: WeightedBce(positive_weight=0), "loss.positive_weight must be above 0, or null, got 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make, named):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == named
