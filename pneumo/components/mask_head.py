"""A second head that learns where: lesion masks as an extra term of the loss, and what it draws as evidence.

B images, C channels, h w a map's height and width"""

from collections.abc import Container

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINEST = 4  # pixels of the image a pixel of the drawn mask: finer maps cost more than they tell


class MaskHead(nn.Module):
    """Maps from fine to coarse, of the backbone's `stages` -> lesion logits (B, 1, h, w) at the size of the
    finest: a feature pyramid (Lin et al. 2017, "Feature pyramid networks")."""

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
        fine_to_coarse = [lateral(one) for lateral, one in zip(self.lateral, maps, strict=True)]
        merged = fine_to_coarse.pop()
        while fine_to_coarse:
            finer = fine_to_coarse.pop()
            merged = finer + F.interpolate(merged, size=finer.shape[2:], mode="nearest")
        drawn: Tensor = self.smooth(merged)
        return drawn


@torch.inference_mode()
def stages(backbone: nn.Module) -> dict[int, int]:
    """Which children of a network, that is its children one after another, give the last map of each size
    from FINEST pixels to the coarsest, and its channels."""
    side = 64
    x, last_of_size = torch.zeros(1, 1, side, side), {}
    for number, part in enumerate(backbone.eval().children()):
        x = part(x)
        if x.ndim == 4 and 1 < x.shape[-1] <= side // FINEST:
            last_of_size[x.shape[-1]] = (number, x.shape[1])
    backbone.train()
    return dict(last_of_size.values())


def staged(backbone: nn.Module, images: Tensor, kept: Container[int]) -> tuple[list[Tensor], Tensor]:
    """The maps of these children, and the features (B, F)."""
    maps, x = [], images
    for number, part in enumerate(backbone.children()):
        x = part(x)
        if number in kept:
            maps.append(x)
    return maps, x.flatten(1)


def mask_loss(drawn: Tensor, masks: Tensor, known: Tensor) -> Tensor:
    """Mean over B images of binary cross-entropy and soft Dice, each of an image by itself, so that it does
    not depend on how images are batched. drawn (B, 1, h, w) logits; masks (B, 1, H, W) in [0, 1]; known (B,):
    others count as 0, for a lesion that nobody drew teaches nothing."""
    logits, share = drawn.float(), F.adaptive_avg_pool2d(masks, (drawn.shape[2], drawn.shape[3]))
    p = logits.sigmoid()
    bce = F.binary_cross_entropy_with_logits(logits, share, reduction="none").mean(dim=(1, 2, 3))
    overlap, total = (p * share).sum(dim=(1, 2, 3)), (p + share).sum(dim=(1, 2, 3))
    return torch.where(known, bce + 1 - (2 * overlap + 1) / (total + 1), 0.0).mean()
