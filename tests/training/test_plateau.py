"""When a training is said not to learn, by hand-worked histories."""

import math

import numpy as np
import pytest
import torch
from conftest import parts, store_of
from sklearn.metrics import log_loss

from pneumo.components.augment import Augment
from pneumo.components.losses import Bce, Combined, CrossEntropy, Focal, WeightedBce
from pneumo.evaluation.delong import aurocs
from pneumo.training import plateau
from pneumo.training.plateau import (
    TOO_HIGH,
    TOO_LOW,
    ConstantLoss,
    PlateauDetector,
    epochs_until_told,
    highest_auroc_by_chance,
)

LN2 = math.log(2)  # the entropy of the squares of `small_fit`, half of which are positive


def history(losses, aurocs, val_losses=None):
    val_losses = val_losses or [LN2] * len(losses)
    rows = zip(losses, aurocs, val_losses, strict=True)
    return [{"train/loss": loss, "val/auroc": auroc, "val/loss": val} for loss, auroc, val in rows]


@pytest.fixture
def detector(small_fit, monkeypatch):
    """Of a training of six epochs of four steps, which is told after two."""
    monkeypatch.setattr(plateau, "FEWEST_STEPS", 8)
    return PlateauDetector(small_fit(settings={"epochs": 6})[0])


# ---- the loss of one answer for all images


@pytest.mark.parametrize("loss", [Bce(), CrossEntropy(), Focal(gamma=0)], ids=repr)
def test_the_constant_loss_of_cross_entropy_is_the_entropy_of_the_share(loss):
    entropy = -(0.22 * math.log(0.22) + 0.78 * math.log(0.78))
    constant = ConstantLoss.of(loss, 22, 100, batch_size=16)
    assert constant.best == pytest.approx(entropy, abs=1e-6)
    assert constant.untrained == pytest.approx(LN2, abs=1e-6)


def test_the_constant_loss_of_weighted_cross_entropy_is_that_of_the_balanced_classes():
    balanced = WeightedBce(positive_weight=78 / 22)
    assert ConstantLoss.of(balanced, 22, 100, 16).best == pytest.approx(2 * 0.78 * LN2, abs=1e-6)


def test_label_smoothing_raises_the_constant_loss_to_the_entropy_of_the_smoothed_share():
    q = 0.8 * 0.22 + 0.1
    entropy = -(q * math.log(q) + (1 - q) * math.log(1 - q))
    assert ConstantLoss.of(Bce(label_smoothing=0.2), 22, 100, 16).best == pytest.approx(entropy, abs=1e-6)


@pytest.mark.parametrize("loss", [Focal(gamma=2), Focal(gamma=1, alpha=0.25), Combined()], ids=repr)
def test_no_logit_of_a_grid_has_a_lower_loss_than_the_constant_loss(loss):
    labels = torch.from_numpy(np.arange(100) < 22).float()
    grid = [
        float(loss.of_many(plateau.same_logits(logit, 100, 1), labels, 16))
        for logit in np.linspace(-9, 9, 721)
    ]
    assert ConstantLoss.of(loss, 22, 100, 16).best == pytest.approx(min(grid), abs=1e-4)


# ---- the AUROC of chance


def test_the_highest_auroc_by_chance_is_the_upper_end_of_the_interval_of_random_scores():
    random = np.random.default_rng(0)
    labels = np.arange(133) < 40
    areas = aurocs(labels, random.random((20_000, 133)))[0]
    assert highest_auroc_by_chance(40, 93) == pytest.approx(np.quantile(areas, 0.975), abs=0.003)


def test_without_a_class_in_validation_nothing_is_said(small_fit, monkeypatch):
    monkeypatch.setattr(plateau, "FEWEST_STEPS", 8)
    trainer, _ = small_fit(split=parts(32, 0), settings={"epochs": 6})
    assert PlateauDetector(trainer)(history([LN2] * 4, [math.nan] * 4)) is None


# ---- when


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "told_after"),
    [(9, 123, 3), (18, 123, 6), (10, 500, 4), (3, 500, 2), (9, 53, 6), (2, 7, 43)],
)
def test_a_third_of_the_epochs_two_of_them_and_300_steps_pass_before_it_is_told(
    epochs, steps_per_epoch, told_after
):
    assert epochs_until_told(epochs, steps_per_epoch) == told_after


def test_two_epochs_at_the_constant_loss_and_chance_are_a_plateau(detector):
    assert detector(history([0.9], [0.5])) is None
    found = detector(history([0.9, 0.68], [0.5, 0.55]))
    assert (found.n_epochs, found.train_loss, found.val_auroc) == (2, 0.68, 0.55)
    assert found.constant_loss == pytest.approx(LN2)


def test_a_training_that_stopped_early_is_judged_by_the_epochs_that_it_has(small_fit, monkeypatch):
    monkeypatch.setattr(plateau, "FEWEST_STEPS", 8)
    detector = PlateauDetector(small_fit(settings={"epochs": 50})[0])  # told after 17 otherwise
    dead = history([0.9, 0.7, 0.7, 0.7], [0.5, 0.55, 0.5, 0.5])
    assert detector(dead) is None
    assert detector(dead, stopped=True).n_epochs == 4
    learned = history([0.9, 0.7, 0.7, 0.7], [0.5, 0.9, 0.5, 0.5])
    assert detector(learned, stopped=True) is None


def test_a_training_that_stopped_before_the_fewest_steps_is_not_judged(small_fit, monkeypatch):
    monkeypatch.setattr(plateau, "FEWEST_STEPS", 17)  # five epochs of four steps
    detector = PlateauDetector(small_fit(settings={"epochs": 50})[0])
    dead = history([0.7] * 5, [0.5] * 5)
    assert detector(dead[:4], stopped=True) is None
    assert detector(dead, stopped=True).n_epochs == 5


def test_an_auroc_above_chance_or_a_lower_training_loss_is_learning(detector):
    assert detector(history([0.9, 0.7], [0.5, 0.9])) is None
    assert detector(history([0.9, 0.94 * LN2], [0.5, 0.5])) is None


def test_a_training_that_forgets_what_it_learned_is_on_a_plateau_too(detector):
    losses, areas = [0.6, 0.5, 0.7, 0.7], [0.9, 0.95, 0.5, 0.5]
    assert detector(history(losses[:3], areas[:3])) is None
    assert detector(history(losses, areas)) is not None


def test_the_constant_loss_follows_the_share_of_positives_of_each_epoch(small_fit):
    trainer, _ = small_fit(settings={"epochs": 3, "positive_share": 0.75})
    found = PlateauDetector(trainer)
    expected = [log_loss(np.arange(16) < 16 * share, np.full(16, share)) for share in (0.75, 0.625, 0.5)]
    assert [found.constant_loss(epoch).best for epoch in (1, 2, 3)] == pytest.approx(expected, abs=1e-6)


def test_relabelling_lowers_the_share_of_positives_by_the_crops_that_lose_the_lesion(small_fit):
    pixels = np.zeros((8, 16, 16), np.uint8)
    masks = pixels.copy()
    masks[1::2, 4:12, 4:12] = 255  # of the positives, which no crop of nine tenths loses
    whole = Augment(crop=0.9, relabel=True)
    trainer, _ = small_fit(n_train=8, n_val=0, store=store_of(pixels, masks), augment=whole)
    assert plateau.labelled_share(trainer, 0.5) == 0.5
    masks[:] = 0
    masks[1::2, 0, 0] = 255  # which every crop but those of the corner loses
    trainer, _ = small_fit(
        n_train=8, n_val=0, store=store_of(pixels, masks), augment=Augment(crop=0.5, relabel=True)
    )
    assert plateau.labelled_share(trainer, 0.5) < 0.25


# ---- what the losses tell of the learning rate; those of observed trainings, scaled to this entropy


@pytest.mark.parametrize(
    ("losses", "aurocs", "val_losses", "rate"),
    [
        ([0.86, 0.74, 0.72], [0.50, 0.53, 0.44], [2.30, 1.34, 0.70], TOO_HIGH),  # adamw 1e-1
        ([0.97, 0.72, 0.70], [0.51, 0.50, 0.50], [0.91, 0.70, 0.70], TOO_HIGH),  # adamw 3e-1
        ([0.72, 0.70, 0.70], [0.51, 0.50, 0.50], [0.70, 0.70, 0.70], TOO_HIGH),  # its activations died
        ([0.72, 0.71, 0.70], [0.57, 0.51, 0.45], [0.73, 0.78, 0.76], None),  # adamw 1e-2
    ],
)
def test_what_rises_above_an_untrained_network_or_answers_alike_has_too_high_a_rate(
    detector, losses, aurocs, val_losses, rate
):
    assert detector.learning_rate(history(losses, aurocs, val_losses)) == rate


def test_a_falling_loss_on_rare_positives_is_not_called_one_that_rises(small_fit):
    trainer, _ = small_fit(n_train=40, n_val=10)
    trainer.batches._labels[:] = torch.from_numpy(np.arange(50) % 20 == 0).float()  # the entropy is .199
    detector = PlateauDetector(trainer)
    losses = [0.64, 0.61, 0.58]  # below that of equal odds, .693, though more than twice the entropy
    assert detector.learning_rate(history(losses, [0.53, 0.55, 0.55], losses)) == TOO_LOW


def test_a_loss_far_above_the_constant_that_falls_or_does_not_move_has_too_low_a_rate(small_fit):
    labels = np.arange(50) % 5 == 0  # one in five is positive: the entropy is .500
    trainer, _ = small_fit(n_train=40, n_val=10)
    trainer.batches._labels[:] = torch.from_numpy(labels[:50]).float()
    detector = PlateauDetector(trainer)
    areas = [0.53, 0.55, 0.55]
    assert detector.learning_rate(history([0.65, 0.61, 0.57], areas)) == TOO_LOW
    assert detector.learning_rate(history([0.68, 0.67, 0.68], areas)) == TOO_LOW
    assert detector.learning_rate(history([0.59, 0.64, 0.55], areas)) is None, "it jumps"
    assert detector.learning_rate(history([0.65, 0.55, 0.51], areas)) is None, "it has come to the constant"
