import numpy as np
import pytest
from conftest import store_of

from pneumo.components.augment import Augment
from pneumo.training.lesion_retention import sampled_lesions, share_of_lesions_lost


def corner_lesions(n):
    masks = np.zeros((n, 32, 32), np.uint8)
    masks[:, :2, :2] = 255
    return store_of(np.zeros_like(masks), masks)


def test_without_geometry_no_lesion_is_lost():
    store = corner_lesions(4)
    assert share_of_lesions_lost(Augment(flip=0.5), store, sampled_lesions(store), 0.05) == 0


def test_a_crop_loses_a_corner_as_often_as_its_window_lies_past_it():
    store = corner_lesions(512)
    # a window of 16 of 32 pixels starts anywhere from 0 to 16: it must reach above and left of 2
    lost = share_of_lesions_lost(Augment(crop=0.5), store, sampled_lesions(store), 0.05, n_draws=4)
    assert lost == pytest.approx(1 - (2 / 16) ** 2, abs=0.02)


def test_without_draws_it_is_what_evaluation_sees():
    store = corner_lesions(3)
    lost = [
        share_of_lesions_lost(Augment(crop=crop), store, np.arange(3), 1e-3, n_draws=0) for crop in (0.5, 1)
    ]
    assert lost == [1, 0]
