"""Normalisation of grey values in [0, 1] to what the model sees, by a mean and a standard deviation."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pneumo.data.store import Store


@dataclass(frozen=True)
class Normalise:
    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


FIXED = {
    "half": Normalise(0.5, 0.5),
    "none": Normalise(0.0, 1.0),
    "imagenet": Normalise(0.449, 0.226),  # the means over ImageNet's three channels
}


def normaliser(kind: str, store: Store, train: np.ndarray) -> Normalise:
    """One of FIXED, or `train`: mean and standard deviation of all pixels of these rows, as stored."""
    if kind != "train":
        return FIXED[kind]
    counts = np.zeros(256, np.int64)
    for start in range(0, len(train), 256):
        counts += np.bincount(store.pixels[train[start : start + 256]].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float((counts * values).sum() / counts.sum())
    return Normalise(mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())))
