"""A heat map over its film, as a PNG."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pneumo.data.decode.grayscale import Pixel
from pneumo.data.decode.images import as_png

SMALLEST_SIDE_PX = 512
HOT = (255, 60, 0)
MOST = 0.6  # of the film is covered where the map is 1


def save_heat_map(film: Pixel, heat: np.ndarray, path: Path) -> None:
    """(S, S) and (S, S) in [0, 1]."""
    both = torch.stack([torch.from_numpy(film.copy()).float(), torch.from_numpy(heat).float()])[None]
    side = max(SMALLEST_SIDE_PX, len(film))
    grey, hot = F.interpolate(both, (side, side), mode="bilinear", align_corners=False)[0]
    cover = MOST * hot
    overlaid = grey * (1 - cover) + torch.tensor(HOT)[:, None, None] * cover
    path.write_bytes(as_png(overlaid.round().clamp(0, 255).to(torch.uint8).movedim(0, 2).numpy()))
