"""A saliency map over its radiograph, as a PNG."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pneumo.data.decode.grayscale import Pixel
from pneumo.data.decode.images import as_png

MIN_SIDE_PX = 512
COLOUR = (255, 60, 0)
OPACITY = 0.6  # of the colour where the map is 1


def save_heat_map(radiograph: Pixel, saliency_map: np.ndarray, path: Path) -> None:
    """Writes the PNG: `radiograph` (S, S) uint8, `saliency_map` (S, S) in [0, 1]."""
    layers = [torch.from_numpy(radiograph.copy()).float(), torch.from_numpy(saliency_map).float()]
    both = torch.stack(layers)[None]
    side = max(MIN_SIDE_PX, len(radiograph))
    grey, weight = F.interpolate(both, (side, side), mode="bilinear", align_corners=False)[0]
    cover = OPACITY * weight
    overlaid = grey * (1 - cover) + torch.tensor(COLOUR)[:, None, None] * cover
    path.write_bytes(as_png(overlaid.round().clamp(0, 255).to(torch.uint8).movedim(0, 2).numpy()))
