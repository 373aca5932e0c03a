"""Plots of the images that a model gets most wrong and most right, with its saliency map."""

import numpy as np
import torch
from matplotlib.figure import Figure

from pneumo.data.dataset import Dataset
from pneumo.display.format import decimal
from pneumo.evaluation import pictures
from pneumo.evaluation.pictures import Tiles
from pneumo.inference.model import LoadedModel
from pneumo.inference.saliency import MAPS, NAMES
from pneumo.training.predict import Predictions

SHOWN = 12  # of each class in each figure
MAP = "hires_cam"
OUTCOMES = {(1, 1): "found", (1, 0): "missed", (0, 1): "false alarm", (0, 0): "cleared"}  # label, called


def gallery(loaded: LoadedModel, dataset: Dataset, predictions: Predictions) -> dict[str, Figure]:
    """Caption -> plot of the most wrong and of the most right images, up to SHOWN of each class; no image is
    in both. Images are called positive at the model's threshold."""
    wrong, right = {}, {}
    for label in (1, 0):
        of_class = np.flatnonzero(predictions.labels == label)
        worst_first = of_class[np.argsort(np.abs(label - predictions.scores[of_class]), kind="stable")[::-1]]
        half = -(-len(of_class) // 2)
        wrong[label], right[label] = worst_first[:half][:SHOWN], worst_first[half:][::-1][:SHOWN]
    found = {}
    for name, classes in (("most wrong", wrong), ("most right", right)):
        groups = [tiles(loaded, dataset, predictions, *one) for one in classes.items() if len(one[1])]
        if groups:
            caption = f"The {sum(map(len, classes.values()))} {name}"
            legend = f"{caption}: lesions outlined; {NAMES[MAP]} in yellow, each on its own scale"
            found[caption] = pictures.saliency_grid(legend, groups)
    return found


def tiles(
    loaded: LoadedModel, dataset: Dataset, predictions: Predictions, label: int, positions: np.ndarray
) -> Tiles:
    rows = predictions.rows[positions]
    scores = predictions.scores[positions]
    called = (scores >= loaded.threshold).astype(int)
    wrong = called != label
    pixels = dataset.store.pixels[rows]
    ids = dataset.cohort.table["image_id"].to_numpy()[rows]
    outcomes = [OUTCOMES[label, int(one)] for one in called]
    return Tiles(
        heading=f"{'' if label else 'no '}pneumothorax: {wrong.sum()} of {len(rows)} called wrong",
        images=pixels / 255,
        masks=dataset.store.masks(rows),
        maps=MAPS[MAP](loaded, torch.from_numpy(pixels)[:, None]),
        captions=[
            (str(name), f"P {decimal(score)}, {outcome}")
            for name, score, outcome in zip(ids, scores, outcomes, strict=True)
        ],
        wrong=list(wrong),
    )
