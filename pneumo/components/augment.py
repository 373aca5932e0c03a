"""Augmentation of a whole batch at once, on its device: one fused resampling for all geometry, own
parameters for every image, and a deterministic counterpart for evaluation.

The random numbers are drawn apart, one row an image (`draw`), so that what happens to an image depends on
the seed, the epoch and the image alone: not on batch size, accumulation, device or number of processes.

B batch, H height, W width, h w height and width after the crop."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.errors import InputError

GEOMETRY = ("angle", "shear", "scale", "shift_x", "shift_y", "flip", "crop_x", "crop_y")
DRAWS = (*GEOMETRY, "brightness", "contrast", "gamma", "erase", "erase_x", "erase_y")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Ranges are symmetric: rotation_degrees=10 means -10 to 10. `shift` and `crop` are shares of the side,
    `scale`, `brightness`, `contrast` and `gamma` are factors 1 +- the value, `flip` and `erase`
    probabilities, `erase_side` a share of the side.

    `relabel`: the lesion's mask goes through the same geometry. A positive image that keeps less than
    `relabel_lost_below` of its lesion's area becomes a negative one; up to `relabel_kept_from` it is left
    out of the loss."""

    rotation_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    crop: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    erase: float = 0.0
    erase_side: float = 0.2
    relabel: bool = False
    relabel_lost_below: float = 0.05
    relabel_kept_from: float = 0.25

    def __post_init__(self) -> None:
        for name in ("scale", "brightness", "contrast", "gamma", "flip", "erase", "shift"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InputError(f"augment.{name} must lie between 0 and 1, got {value}")
        for name in ("crop", "erase_side"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise InputError(f"augment.{name} must lie above 0 and at most at 1, got {value}")
        if not 0 <= self.relabel_lost_below <= self.relabel_kept_from <= 1:
            raise InputError(
                "augment.relabel_lost_below must not exceed augment.relabel_kept_from, both in [0, 1], "
                f"got {self.relabel_lost_below} and {self.relabel_kept_from}"
            )

    def draw(self, n_images: int, generator: torch.Generator) -> Tensor:
        """(n_images, len(DRAWS)) random numbers, on the generator's device."""
        return torch.rand(n_images, len(DRAWS), generator=generator)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, 1, H, W) uint8 and (B, len(DRAWS)) -> (B, 1, h, w) float in [0, 1]."""
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
        """(B, 1, H, W) uint8 through the same geometry -> (B, 1, h, w) float in [0, 1]."""
        return self._resampled(masks.float().div_(255), draws)

    def surviving(self, masks: Tensor, draws: Tensor) -> Tensor:
        """(B, 1, H, W) uint8 masks, none empty -> (B,) the share of each lesion's area that is still seen."""
        return self.share_seen(masks, self.masks(masks, draws), draws)

    def share_seen(self, masks: Tensor, seen: Tensor, draws: Tensor) -> Tensor:
        """As `surviving`, where `seen` (B, 1, h, w) are these masks after `self.masks`."""
        magnified = self._affine(draws)[:, :, :2].det().abs()
        source_pixels = magnified * (masks.shape[-1] / seen.shape[-1]) ** 2  # under one of the output
        area = masks.sum(dim=(1, 2, 3)) / 255
        return (seen.sum(dim=(1, 2, 3)) * source_pixels / area).clamp(max=1)

    def relabelled(self, labels: Tensor, surviving: Tensor) -> Tensor:
        """(B,) labels of positives after the geometry: 1, 0, or NaN for those that teach nothing."""
        uncertain = torch.where(surviving >= self.relabel_kept_from, labels, torch.nan)
        return torch.where(surviving < self.relabel_lost_below, 0.0, uncertain)

    def evaluation(self, images: Tensor) -> Tensor:
        """What evaluation sees: (B, 1, H, W) uint8 -> (B, 1, h, w) float in [0, 1], the central crop; the
        whole image where crops are relabelled, since the model was then taught to answer for what it sees."""
        side = images.shape[-1]
        kept = side if self.relabel else self.output_side(side)
        start = (side - kept) // 2
        return images[:, :, start : start + kept, start : start + kept].float() / 255

    def output_side(self, side: int) -> int:
        """The side after the crop, in pixels."""
        return max(1, round(self.crop * side))

    def _affine(self, draws: Tensor) -> Tensor:
        """(B, 2, 3) from the output's coordinates to the input's, both -1 to 1: the crop's window first,
        then the inverse of flip, rotation, shear, scale and shift."""
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
        return F.grid_sample(pixels, _grid(self._affine(draws), side), align_corners=False)

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
        """(B, 1, 1, 1) factors in 1 +- range_."""
        return (1 + range_ * (2 * draws[:, DRAWS.index(name)] - 1))[:, None, None, None]


def _grid(affine: Tensor, side: int) -> Tensor:
    """F.affine_grid of (B, 2, 3) at (side, side), (B, side, side, 2): by sums, since its product of matrices
    two columns wide takes longer on a CPU than the sampling itself."""
    along = (2 * torch.arange(side, device=affine.device) + 1) / side - 1
    across, down, offset = (affine[:, :, i, None, None] for i in range(3))
    return (across * along + (down * along[:, None] + offset)).movedim(1, 3)
