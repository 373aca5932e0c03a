"""A second head that segments the lesion: its masks add a term to the loss, and its logits to the prediction.

B is the number of images, C of channels, and h and w are the height and width of a feature map."""

from collections.abc import Container

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINEST = (
    4  # image pixels along one side of a pixel of the predicted mask; finer maps cost more than they gain
)


class MaskHead(nn.Module):
    """A feature pyramid (Lin et al. 2017, "Feature pyramid networks"): from the maps of the backbone's
    `stages` (number of a child -> its channels), ordered from fine to coarse, to lesion logits (B, 1, h, w)
    at the size of the finest map."""

    def __init__(self, stages: dict[int, int], width: int = 32):
        super().__init__()
        self.stages = stages
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in stages.values())
        self.smooth = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine_to_coarse = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        merged = fine_to_coarse.pop()
        while fine_to_coarse:
            finer = fine_to_coarse.pop()
            merged = finer + F.interpolate(merged, size=finer.shape[2:], mode="nearest")
        logits: Tensor = self.smooth(merged)
        return logits


@torch.inference_mode()
def stages(backbone: nn.Module) -> dict[int, int]:
    """Returns the numbers and channels of the children, of a network that applies them one after another,
    that give the last map of each size, from one FINEST-th of the image's side to 2 x 2 pixels."""
    side = 64
    x, last_of_size = torch.zeros(1, 1, side, side), {}
    for number, child in enumerate(backbone.eval().children()):
        x = child(x)
        if x.ndim == 4 and 1 < x.shape[-1] <= side // FINEST:
            last_of_size[x.shape[-1]] = (number, x.shape[1])
    backbone.train()
    return dict(last_of_size.values())


def staged(backbone: nn.Module, images: Tensor, kept: Container[int]) -> tuple[list[Tensor], Tensor]:
    """Returns the maps of the children with these numbers, and the features (B, n_features)."""
    maps, x = [], images
    for number, child in enumerate(backbone.children()):
        x = child(x)
        if number in kept:
            maps.append(x)
    return maps, x.flatten(1)


def mask_loss(logits: Tensor, masks: Tensor, known: Tensor) -> Tensor:
    """Returns the mean over B images of binary cross-entropy plus soft Dice, both computed for each image by
    itself, so that the loss does not depend on how images are batched.

    logits (B, 1, h, w); masks (B, 1, H, W) in [0, 1]; known (B,): whether the image's lesion is annotated.
    The loss of other images is 0."""
    logits, share = logits.float(), F.adaptive_avg_pool2d(masks, (logits.shape[2], logits.shape[3]))
    p = logits.sigmoid()
    bce = F.binary_cross_entropy_with_logits(logits, share, reduction="none").mean(dim=(1, 2, 3))
    overlap, total = (p * share).sum(dim=(1, 2, 3)), (p + share).sum(dim=(1, 2, 3))
    return torch.where(known, bce + 1 - (2 * overlap + 1) / (total + 1), 0.0).mean()
