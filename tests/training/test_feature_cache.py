import numpy as np
import pytest
import torch
from conftest import store_of

from pneumo.components.augment import Augment
from pneumo.components.models import Tiny
from pneumo.components.optimizers import Sgd
from pneumo.errors import InputError
from pneumo.training import feature_cache
from pneumo.training.feature_cache import with_cached_features
from pneumo.training.predict import tta_transforms

FROZEN = Tiny(width=4, freeze="backbone", dropout=0.2)
SETTINGS = {"epochs": 3, "accumulation_steps": 2}


def quiet(done, total):
    pass


@pytest.fixture
def frozen_fit(small_fit, tmp_path):
    """Options -> (Trainer, TrainState) with a frozen backbone, on a store in a folder."""

    def make(cache="auto", **options):
        settings = SETTINGS | {"cache_features": cache}
        trainer, train_state = small_fit(model=FROZEN, optimizer=Sgd(lr=0.1), settings=settings, **options)
        object.__setattr__(trainer.batches.store, "folder", tmp_path)
        return trainer, train_state

    return make


def head(train_state):
    return torch.cat([p.detach().flatten() for p in train_state.model.head.parameters()])


def test_on_features_the_head_learns_what_it_learns_on_images(frozen_fit):
    heads, metrics = [], []
    for cache in (None, "auto"):
        trainer, train_state = frozen_fit(cache)
        trainer = with_cached_features(trainer, train_state.model, True, quiet)
        assert (trainer.features is not None) == (cache == "auto")
        list(trainer.epochs(train_state))
        heads.append(head(train_state))
        metrics.append(train_state.history[-1]["val/loss"])
    assert torch.allclose(*heads, atol=1e-6)
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)


def test_features_are_computed_once(frozen_fit, monkeypatch):
    trainer, train_state = frozen_fit()
    first = with_cached_features(trainer, train_state.model, True, quiet)
    monkeypatch.setattr(feature_cache, "computed", lambda *_: pytest.fail("computed again"))
    again = with_cached_features(trainer, train_state.model, True, quiet)
    assert torch.equal(first.features.features, again.features.features)


@pytest.mark.parametrize("change", ["weights", "seed of the views"])
def test_other_weights_or_views_have_other_features(frozen_fit, change):
    trainer, train_state = frozen_fit(cache=2)
    before = feature_cache.key_of(trainer, train_state.model, 2)
    if change == "weights":
        next(train_state.model.backbone.parameters()).data.add_(1e-3)
    else:
        trainer, _ = frozen_fit(cache=2, seed=1)
    assert feature_cache.key_of(trainer, train_state.model, 2) != before


def test_each_augmented_view_is_what_the_backbone_makes_of_it(frozen_fit):
    trainer, train_state = frozen_fit(cache=3, augment=Augment(flip=0.5, rotation_degrees=20))
    kept, labels = feature_cache.computed(trainer, train_state.model, 3, quiet)
    assert kept.shape[:2] == labels.shape == (48, 4)
    draws = trainer.augment.draw(48, torch.Generator().manual_seed(2))
    images = torch.from_numpy(trainer.batches.store.pixels[:5])[:, None]
    train_state.model.eval()
    with torch.no_grad():
        third = train_state.model.backbone(trainer.normalise(trainer.augment(images, draws[:5])))
        plain = train_state.model.backbone(trainer.normalise(images.float() / 255))
    assert kept[:5, 3] == pytest.approx(third.numpy(), abs=1e-5)
    assert kept[:5, 0] == pytest.approx(plain.numpy(), abs=1e-5)


def test_features_that_do_not_fit_into_memory_are_computed_in_halves(frozen_fit):
    trainer, train_state = frozen_fit(cache=2)
    whole = feature_cache.computed(trainer, train_state.model, 2, quiet)
    sizes = []

    def small_memory(module, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    train_state.model.backbone.register_forward_pre_hook(small_memory)
    halves = feature_cache.computed(trainer, train_state.model, 2, quiet)
    assert list(dict.fromkeys(sizes)) == [16, 8, 4]
    for one, other in zip(whole, halves, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_augmented_images_are_cached_only_where_it_is_asked_for(frozen_fit):
    trainer, train_state = frozen_fit(augment=Augment(flip=0.5))
    assert with_cached_features(trainer, train_state.model, True, quiet) is trainer
    trainer, train_state = frozen_fit(cache=2, augment=Augment(flip=0.5))
    trainer = with_cached_features(trainer, train_state.model, True, quiet)
    assert trainer.features is not None
    assert len(list(trainer.epochs(train_state))) == 3


def test_a_view_that_lost_the_lesion_has_the_label_of_what_is_seen(frozen_fit):
    pixels = np.zeros((48, 16, 16), np.uint8)
    masks = np.zeros_like(pixels)
    masks[1::2, :2, :2] = 255  # in the corner: most half-side crops miss it
    trainer, train_state = frozen_fit(
        cache=4, augment=Augment(crop=0.5, relabel=True), store=store_of(pixels, masks)
    )
    _, labels = feature_cache.computed(trainer, train_state.model, 4, quiet)
    assert (labels[1::2, 0] == 1).all()
    assert np.nanmean(labels[1::2, 1:]) < 0.5


def test_other_views_than_the_plain_one_are_predicted_from_images(frozen_fit):
    trainer, train_state = frozen_fit()
    on_features = with_cached_features(trainer, train_state.model, True, quiet)
    for name in ("none", "hflip"):
        expected = trainer.predict(train_state.model, trainer.split.val, tta_transforms(name)).scores
        found = on_features.predict(train_state.model, trainer.split.val, tta_transforms(name)).scores
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_number_of_views_without_a_frozen_backbone_is_refused(frozen_fit):
    trainer, train_state = frozen_fit(cache=2)
    with pytest.raises(InputError, match=r"fit\.cache_features=2 needs model\.freeze=backbone"):
        with_cached_features(trainer, train_state.model, False, quiet)
