"""Masks teach where; batches may hold more positives at first."""

import numpy as np
import pytest
import torch
from conftest import store_of
from hypothesis import given
from hypothesis import strategies as st

from pneumo.components.augment import Augment
from pneumo.components.mask_head import mask_loss, staged, stages
from pneumo.components.models import Tiny, Torchvision
from pneumo.components.optimizers import Sgd
from pneumo.data.sampling import falling, with_share
from pneumo.errors import InputError


@pytest.mark.parametrize(
    "model", [Tiny(width=4, mask_head=True), Torchvision(arch="resnet18", mask_head=True)]
)
def test_a_mask_head_draws_at_a_quarter_of_the_side_and_adds_nothing_at_first(model):
    torch.manual_seed(0)
    with_head = model(2).eval()
    torch.manual_seed(0)
    without = type(model)(**{**model.__dict__, "mask_head": False})(2).eval()
    images = torch.rand(3, 1, 64, 64)
    logits, drawn = with_head(images, drawing=True)
    assert drawn.shape == (3, 1, 16, 16)
    assert torch.equal(logits, with_head(images))
    assert torch.allclose(logits, without(images), atol=1e-6)


def test_staged_gives_the_features_of_the_whole_network():
    network, n_features = Torchvision(arch="resnet18").backbone()
    network.eval()
    images = torch.rand(2, 1, 64, 64)
    ends = stages(network)
    network.eval()
    maps, features = staged(network, images, ends)
    assert [one.shape[1] for one in maps] == list(ends.values())
    assert [one.shape[-1] for one in maps] == [16, 8, 4, 2]
    assert features.shape == (2, n_features)
    assert torch.allclose(features, network(images))


def test_other_networks_are_refused_by_name():
    with pytest.raises(InputError, match="needs model=tiny or a resnet"):
        Torchvision(arch="densenet121", mask_head=True)(1)


def test_the_mask_loss_is_that_of_a_naive_loop():
    torch.manual_seed(0)
    drawn, masks = torch.randn(4, 1, 4, 4), torch.rand(4, 1, 8, 8)
    known = torch.tensor([True, False, True, True])
    total = torch.tensor(0.0)
    for n in (0, 2, 3):
        share = masks[n, 0].reshape(4, 2, 4, 2).mean(dim=(1, 3))
        p = 1 / (1 + torch.exp(-drawn[n, 0]))
        bce = -(share * p.log() + (1 - share) * (1 - p).log()).mean()
        total += bce + 1 - (2 * (p * share).sum() + 1) / (p.sum() + share.sum() + 1)
    assert torch.isclose(mask_loss(drawn, masks, known), total / 4)


def test_masks_go_where_their_images_go():
    augment = Augment(rotation_degrees=30, scale=0.2, shift=0.1, flip=0.5, crop=0.7)
    images = (torch.rand(5, 1, 24, 24) > 0.8).byte() * 255
    draws = augment.draw(5, torch.Generator().manual_seed(0))
    assert torch.allclose(augment.masks(images, draws), augment(images, draws), atol=1e-6)


def test_masks_change_what_is_learned_and_how_images_are_batched_does_not(small_fit):
    """8 x 1 against 4 x 2, in evaluation mode: batch statistics would differ."""
    pixels = np.random.default_rng(0).integers(0, 120, (48, 16, 16), np.uint8)
    masks = np.zeros_like(pixels)
    masks[1::2, 2:6, 2:6] = 255
    weights = {}
    for name, head, batch, steps in (("8", True, 8, 1), ("4x2", True, 4, 2), ("none", False, 8, 1)):
        trainer, train_state = small_fit(
            model=Tiny(width=4, mask_head=head),
            optimizer=Sgd(lr=0.3),
            store=store_of(pixels, masks),
            settings={"batch_size": batch, "accumulation_steps": steps},
        )
        train_state.model.eval().train = lambda mode=True, own=train_state.model: own
        list(trainer.epochs(train_state))
        weights[name] = train_state.model.head.weight.detach().clone()
    assert torch.allclose(weights["8"], weights["4x2"], atol=1e-5)
    assert not torch.allclose(weights["8"], weights["none"], atol=1e-4)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_an_epoch_has_the_share_of_positives_and_every_image_as_often_as_it_can(n_pos, n_neg, share, seed):
    positive = np.arange(n_pos + n_neg) < n_pos
    rows = 100 + np.arange(n_pos + n_neg)
    order = with_share(rows, positive, share, np.random.default_rng(seed))
    assert len(order) == len(rows)
    times = np.array([(order == row).sum() for row in rows])
    assert times[positive].sum() == round(share * len(rows))
    for of_class in (times[positive], times[~positive]):
        assert of_class.max() - of_class.min() <= 1


def test_the_share_falls_in_equal_steps_to_the_natural_one(small_fit):
    assert [falling(0.8, 0.2, epoch, 4) for epoch in (1, 2, 3, 4)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert falling(0.8, 0.2, 1, 1) == 0.2
    trainer, _ = small_fit(settings={"positive_share": 0.75, "epochs": 3})
    labels = trainer.batches.labels(np.arange(48)).numpy()
    shares = [labels[trainer.order(epoch, np.random.default_rng(0))].mean() for epoch in (1, 2, 3)]
    assert shares == pytest.approx([0.75, 0.625, 0.5], abs=1 / 32)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("fit.positive_share=1", "fit.positive_share must be above 0"),
        ("fit.mask_weight=0", "fit.mask_weight must be"),
    ],
)
def test_what_cannot_be_meant_is_refused(composed, setting, said):
    with pytest.raises(InputError, match=said):
        composed(setting)
