import numpy as np
import pytest
import torch
from conftest import store_of

from pneumo.components.augment import Augment
from pneumo.components.models import Tiny
from pneumo.components.optimizers import Sgd
from pneumo.errors import InputError
from pneumo.training import feature_cache
from pneumo.training.feature_cache import FeatureFit, remembering
from pneumo.training.predict import views_of

FROZEN = Tiny(width=4, freeze="backbone", dropout=0.2)
SETTINGS = {"epochs": 3, "accumulation_steps": 2}


def quiet(done, total):
    pass


@pytest.fixture
def frozen_fit(small_fit, tmp_path):
    """Options -> (Fit, Training) with a frozen backbone, on a store in a folder."""

    def make(cache="auto", **options):
        settings = SETTINGS | {"cache_features": cache}
        fit, training = small_fit(model=FROZEN, optimizer=Sgd(lr=0.1), settings=settings, **options)
        object.__setattr__(fit.batches.store, "folder", tmp_path)
        return fit, training

    return make


def head(training):
    return torch.cat([p.detach().flatten() for p in training.model.head.parameters()])


def test_on_features_the_head_learns_what_it_learns_on_images(frozen_fit):
    heads, figures = [], []
    for cache in (None, "auto"):
        fit, training = frozen_fit(cache)
        fit = remembering(fit, training.model, True, quiet)
        assert isinstance(fit, FeatureFit) == (cache == "auto")
        list(fit.epochs(training))
        heads.append(head(training))
        figures.append(training.history[-1]["val/loss"])
    assert torch.allclose(*heads, atol=1e-6)
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)


def test_features_are_computed_once(frozen_fit, monkeypatch):
    fit, training = frozen_fit()
    first = remembering(fit, training.model, True, quiet)
    monkeypatch.setattr(feature_cache, "computed", lambda *_: pytest.fail("computed again"))
    again = remembering(fit, training.model, True, quiet)
    rows = fit.split.val
    for one, other in zip(first.batches.of(rows, 8), again.batches.of(rows, 8), strict=True):
        assert torch.equal(one.images, other.images)


@pytest.mark.parametrize("change", ["weights", "seed of the views"])
def test_other_weights_or_views_have_other_features(frozen_fit, change):
    fit, training = frozen_fit(cache=2)
    before = feature_cache.key_of(fit, training.model, 2)
    if change == "weights":
        next(training.model.backbone.parameters()).data.add_(1e-3)
    else:
        fit, _ = frozen_fit(cache=2, seed=1)
    assert feature_cache.key_of(fit, training.model, 2) != before


def test_each_augmented_view_is_what_the_backbone_makes_of_it(frozen_fit):
    fit, training = frozen_fit(cache=3, augment=Augment(flip=0.5, rotation_degrees=20))
    kept, labels = feature_cache.computed(fit, training.model, 3, quiet)
    assert kept.shape[:2] == labels.shape == (48, 4)
    draws = fit.augment.draw(48, torch.Generator().manual_seed(2))
    images = torch.from_numpy(fit.batches.store.pixels[:5])[:, None]
    training.model.eval()
    with torch.no_grad():
        third = training.model.backbone(fit.normalise(fit.augment(images, draws[:5])))
        plain = training.model.backbone(fit.normalise(images.float() / 255))
    assert kept[:5, 3] == pytest.approx(third.numpy(), abs=1e-5)
    assert kept[:5, 0] == pytest.approx(plain.numpy(), abs=1e-5)


def test_augmented_images_are_cached_only_where_it_is_asked_for(frozen_fit):
    fit, training = frozen_fit(augment=Augment(flip=0.5))
    assert remembering(fit, training.model, True, quiet) is fit
    fit, training = frozen_fit(cache=2, augment=Augment(flip=0.5))
    fit = remembering(fit, training.model, True, quiet)
    assert isinstance(fit, FeatureFit)
    assert len(list(fit.epochs(training))) == 3


def test_a_view_that_lost_the_lesion_has_the_label_of_what_is_seen(frozen_fit):
    pixels = np.zeros((48, 16, 16), np.uint8)
    masks = np.zeros_like(pixels)
    masks[1::2, :2, :2] = 255  # in the corner: most half-side crops miss it
    fit, training = frozen_fit(
        cache=4, augment=Augment(crop=0.5, relabel=True), store=store_of(pixels, masks)
    )
    _, labels = feature_cache.computed(fit, training.model, 4, quiet)
    assert (labels[1::2, 0] == 1).all()
    assert np.nanmean(labels[1::2, 1:]) < 0.5


def test_other_views_than_the_plain_one_are_predicted_from_images(frozen_fit):
    fit, training = frozen_fit()
    on_features = remembering(fit, training.model, True, quiet)
    for name in ("none", "hflip"):
        expected = fit.predict(training.model, fit.split.val, views_of(name)).scores
        found = on_features.predict(training.model, fit.split.val, views_of(name)).scores
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_number_of_views_without_a_frozen_backbone_is_refused(frozen_fit):
    fit, training = frozen_fit(cache=2)
    with pytest.raises(InputError, match=r"fit\.cache_features=2 needs model\.freeze=backbone"):
        remembering(fit, training.model, False, quiet)
