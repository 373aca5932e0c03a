"""Augmentation of a batch on its device: one resampling for the whole geometry, parameters of its own for
every image, and the deterministic transform of evaluation.

The random numbers are drawn separately (`draw`), one row per image, so that the augmentation of an image
depends on the seed, the epoch and the image alone, not on batch size, accumulation, device or processes.

B is the number of images, H and W their height and width, h and w those after the crop."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.errors import InputError, check_settings

GEOMETRY = ("angle", "shear", "scale", "shift_x", "shift_y", "flip", "crop_x", "crop_y")
DISTORTIONS = (  # settings that change the pixels of a lesion, or blank it
    *("rotation_degrees", "shear_degrees", "scale", "shift", "brightness", "contrast", "gamma", "erase"),
)
SHARE = {"at_least": 0, "at_most": 1}
DRAWS = (*GEOMETRY, "brightness", "contrast", "gamma", "erase", "erase_x", "erase_y")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Settings and computation of the augmentation of a batch.

    Ranges are symmetric: rotation_degrees=10 means -10 to 10. `shift`, `crop` and `erase_side` are shares of
    the side of the image; `scale`, `brightness`, `contrast` and `gamma` give factors of 1 +- the value;
    `flip` and `erase` are probabilities.

    With `relabel`, the lesion's mask undergoes the same geometry. A positive image that keeps less than
    `relabel_lost_below` of its lesion's area becomes negative; one that keeps less than `relabel_kept_from`
    is left out of the loss."""

    rotation_degrees: float = field(default=0.0, metadata={"at_least": 0, "at_most": 180})
    shear_degrees: float = field(default=0.0, metadata={"at_least": 0, "below": 90})
    scale: float = field(default=0.0, metadata=SHARE)
    shift: float = field(default=0.0, metadata=SHARE)
    flip: float = field(default=0.0, metadata=SHARE)
    crop: float = field(default=1.0, metadata={"above": 0, "at_most": 1})
    brightness: float = field(default=0.0, metadata=SHARE)
    contrast: float = field(default=0.0, metadata=SHARE)
    gamma: float = field(default=0.0, metadata=SHARE)
    erase: float = field(default=0.0, metadata=SHARE)
    erase_side: float = field(default=0.2, metadata={"above": 0, "at_most": 1})
    relabel: bool = False
    relabel_lost_below: float = 0.05
    relabel_kept_from: float = 0.25

    def __post_init__(self) -> None:
        check_settings("augment", self)
        if not 0 <= self.relabel_lost_below <= self.relabel_kept_from <= 1:
            raise InputError(
                "augment.relabel_lost_below must not exceed augment.relabel_kept_from, both in [0, 1], "
                f"got {self.relabel_lost_below} and {self.relabel_kept_from}"
            )

    def draw(self, n_images: int, generator: torch.Generator) -> Tensor:
        """Returns (n_images, len(DRAWS)) random numbers, on the generator's device."""
        return torch.rand(n_images, len(DRAWS), generator=generator)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augments (B, 1, H, W) uint8 images with (B, len(DRAWS)) draws; returns (B, 1, h, w) in [0, 1]."""
        stored = images.float().div_(255)  # in place: a fresh page costs more than the division
        pixels = self._erased(self._resampled(stored, draws), draws)
        brightness = self._factor(draws, "brightness", self.brightness)
        if self.brightness:
            pixels = (pixels * brightness).clamp(0, 1)
        if self.contrast:
            lit = (stored * brightness).clamp(0, 1) if self.brightness else stored
            mean = lit.mean(dim=(1, 2, 3), keepdim=True)
            pixels = (mean + (pixels - mean) * self._factor(draws, "contrast", self.contrast)).clamp(0, 1)
        if self.gamma:
            pixels = pixels ** self._factor(draws, "gamma", self.gamma)
        return pixels

    def masks(self, masks: Tensor, draws: Tensor) -> Tensor:
        """Applies the same geometry to (B, 1, H, W) uint8 masks; returns (B, 1, h, w) floats in [0, 1]."""
        return self._resampled(masks.float().div_(255), draws)

    def surviving(self, masks: Tensor, draws: Tensor) -> Tensor:
        """Returns (B,) shares of the lesions' areas that stay in the image; no (B, 1, H, W) mask is empty."""
        return self.share_seen(masks, self.masks(masks, draws), draws)

    def share_seen(self, masks: Tensor, seen: Tensor, draws: Tensor) -> Tensor:
        """Returns the same as `surviving`, given these masks after `self.masks` as `seen` (B, 1, h, w)."""
        magnified = self.affine(draws)[:, :, :2].det().abs()
        source_pixels = magnified * (masks.shape[-1] / seen.shape[-1]) ** 2  # in one pixel of the output
        area = masks.sum(dim=(1, 2, 3)) / 255
        return (seen.sum(dim=(1, 2, 3)) * source_pixels / area).clamp(max=1)

    def relabelled(self, labels: Tensor, surviving: Tensor) -> Tensor:
        """Returns the labels (B,) of positives after the geometry: 1, 0, or NaN for those without a loss."""
        uncertain = torch.where(surviving >= self.relabel_kept_from, labels, torch.nan)
        return torch.where(surviving < self.relabel_lost_below, 0.0, uncertain)

    def evaluation(self, images: Tensor) -> Tensor:
        """Returns the images (B, 1, H, W) uint8 as evaluation uses them, (B, 1, h, w) floats in [0, 1]: their
        central crop, or the whole image with `relabel`, where the label of a crop is not that of the
        image."""
        side = images.shape[-1]
        kept = side if self.relabel else self.output_side(side)
        start = (side - kept) // 2
        return images[:, :, start : start + kept, start : start + kept].float() / 255

    def output_side(self, side: int) -> int:
        """Returns the side of the image after the crop, in pixels."""
        return max(1, round(self.crop * side))

    def affine(self, draws: Tensor) -> Tensor:
        """Returns (B, 2, 3) maps from the output's coordinates to the input's, both -1 to 1: the window of
        the crop first, then the inverse of flip, rotation, shear, scale and shift."""
        signed = {name: 2 * draws[:, i] - 1 for i, name in enumerate(DRAWS)}
        angle = math.radians(self.rotation_degrees) * signed["angle"]
        shear = (math.radians(self.shear_degrees) * signed["shear"]).tan()
        flip = torch.where(draws[:, DRAWS.index("flip")] < self.flip, -1.0, 1.0)
        zoom = 1 / (1 + self.scale * signed["scale"])
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        linear = torch.stack(
            [
                torch.stack([cos * flip, cos * shear - sin], dim=1),
                torch.stack([sin * flip, sin * shear + cos], dim=1),
            ],
            dim=1,
        )
        window = (1 - self.crop) * torch.stack([signed["crop_x"], signed["crop_y"]], dim=1)
        moved = 2 * self.shift * torch.stack([signed["shift_x"], signed["shift_y"]], dim=1)
        offset = (linear @ window[:, :, None])[:, :, 0] + moved
        return torch.cat([linear * self.crop, offset[:, :, None]], dim=2)

    def _resampled(self, pixels: Tensor, draws: Tensor) -> Tensor:
        if self.crop == 1 and not (self.rotation_degrees or self.shear_degrees or self.scale or self.shift):
            flipped = draws[:, DRAWS.index("flip"), None, None, None] < self.flip
            return torch.where(flipped, pixels.flip(3), pixels) if self.flip else pixels
        side = self.output_side(pixels.shape[-1])
        return F.grid_sample(pixels, _grid(self.affine(draws), side), align_corners=False)

    def _erased(self, pixels: Tensor, draws: Tensor) -> Tensor:
        if not self.erase:
            return pixels
        side = pixels.shape[-1]
        along = (torch.arange(side, device=pixels.device) + 0.5) / side
        inside = [
            (along - draws[:, DRAWS.index(name), None]).abs() < self.erase_side / 2
            for name in ("erase_x", "erase_y")
        ]
        hit = draws[:, DRAWS.index("erase")] < self.erase
        hole = hit[:, None, None] & inside[0][:, None, :] & inside[1][:, :, None]
        return pixels.masked_fill(hole[:, None], 0)

    def _factor(self, draws: Tensor, name: str, range_: float) -> Tensor:
        """Returns (B, 1, 1, 1) factors from 1 - range_ to 1 + range_."""
        return (1 + range_ * (2 * draws[:, DRAWS.index(name)] - 1))[:, None, None, None]


def _grid(affine: Tensor, side: int) -> Tensor:
    """Returns F.affine_grid of (B, 2, 3) maps, (B, side, side, 2). It is computed by sums, since the product
    of narrow matrices in F.affine_grid takes longer on a CPU than the sampling."""
    along = (2 * torch.arange(side, device=affine.device) + 1) / side - 1
    across, down, offset = (affine[:, :, i, None, None] for i in range(3))
    return (across * along + (down * along[:, None] + offset)).movedim(1, 3)
