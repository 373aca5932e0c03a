import numpy as np
import pytest
import torch
from conftest import store_of

from pneumo.data.normalise import FIXED, normaliser

PIXELS = np.random.default_rng(0).integers(0, 256, (700, 8, 8), np.uint8)


def test_train_gives_the_training_rows_mean_nought_and_deviation_one():
    rows = np.arange(0, 700, 2)
    normalise = normaliser("train", store_of(PIXELS), rows)
    seen = normalise(torch.from_numpy(PIXELS[rows]).float() / 255)
    assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_half_maps_black_and_white_to_minus_one_and_one():
    normalise = normaliser("half", store_of(PIXELS), np.arange(3))
    assert normalise(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]


def test_none_changes_nothing():
    assert FIXED["none"](torch.tensor([0.25])).tolist() == [0.25]
