"""A picture of what the report's crop sees of synthetic radiographs with a lesion."""

import numpy as np
import torch
from matplotlib.figure import Figure

from pneumo.components.augment import Augment
from pneumo.data import phantom
from pneumo.evaluation import plots
from pneumo.training.lesion_retention import NOTHING_LEFT

SHOWN = 4
SIDE_PX = 256
SEED = 0
FRAME = "#f0e442"
CORNERS = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]])


def picture(augment: Augment) -> Figure:
    """The first SHOWN phantom images with a lesion: the lesion outlined, and the frame of one random draw of
    the augmentation each, which is all that the model sees."""
    studies = phantom.studies(20 * SHOWN, SEED)
    ((pixels, masks),) = phantom.draw(studies[studies["area"] > 0].head(SHOWN), SIDE_PX, SEED)
    draws = augment.draw(SHOWN, torch.Generator().manual_seed(SEED))
    kept = augment.surviving(torch.from_numpy(masks)[:, None], draws).tolist()
    figure = Figure(figsize=(3 * SHOWN, 3.3), layout="constrained")
    for axis, image, mask, share, frame in zip(
        figure.subplots(1, SHOWN), pixels, masks, kept, frames_of(augment, draws, SIDE_PX), strict=True
    ):
        lost = share < NOTHING_LEFT
        title = "lesion lost, label still positive" if lost else f"{share:.0%} of the lesion seen"
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8, color=plots.POSITIVE if lost else "black")
        axis.set_axis_off()
        axis.contour(mask, levels=[127], colors=plots.POSITIVE, linewidths=1.2)
        axis.plot(*frame.T, color=FRAME, linewidth=2)
        axis.set(xlim=(-0.5, SIDE_PX - 0.5), ylim=(SIDE_PX - 0.5, -0.5))
    return figure


def frames_of(augment: Augment, draws: torch.Tensor, side_px: int) -> np.ndarray:
    """(B, 5, 2) corners x, y of what B draws of the augmentation see of an image of this side, the first of
    them again at the end, in pixels whose centres are whole numbers."""
    frames: np.ndarray = ((CORNERS @ augment.affine(draws).transpose(1, 2) + 1) * side_px / 2 - 0.5).numpy()
    return frames
