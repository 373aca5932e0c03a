"""The pneumothorax: air between chest wall and lung, as a crescent in the lung's own polar coordinates.

Legend as in frame.py. Angles: 0 apex, pi/2 lateral, pi base; radius 1 at the chest wall.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pneumo.data.phantom.chest import Lungs, Vessels
from pneumo.data.phantom.frame import MM, Frame, Streams

ANGLES = 180  # steps of the quadrature that turns an area into a thickness
DEEPEST = 0.85  # of the lung's radius


@dataclass
class Pneumothorax:
    """Thickness over angle: bumps (B, 3) with centers, half-widths and heights, on one side only.

    Parabolas, since the lung's edge must stay convex: a steeper bump would dent it.
    """

    on_right: Tensor
    center: Tensor
    width: Tensor
    height: Tensor
    darkness: Tensor
    line: Tensor

    @classmethod
    def draw(
        cls, lungs: Lungs, frame: Frame, image: Streams, area: Tensor, on_right: Tensor
    ) -> "Pneumothorax":
        """`area` (B, 1) is the share of the image to cover, as far as the lung has room for it."""
        kind = image.uniform(0.0, 1.0)
        apical, lateral = kind < 0.75, (kind >= 0.75) & (kind < 0.95)
        main = torch.where(
            apical,
            image.normal(0.30, 0.25),
            torch.where(lateral, image.normal(1.25, 0.25), image.normal(2.0, 0.12)),
        )
        # A second bump runs down the wall from the first; a third lies anywhere along it.
        second = main + image.uniform(0.6, 1.4) * torch.where(main > 1.6, -1.0, 1.0)
        third = image.uniform(-0.5, 2.2)
        # The larger, the longer: small ones are short rather than thinner than a line.
        spread = (area / 0.008).pow(0.35).clamp(0.45, 1.7)
        heights = [
            torch.ones_like(main),
            image.uniform(0.2, 0.7) * image.chance(0.5),
            image.uniform(0.15, 0.5) * image.chance(0.25),
        ]
        lesion = cls(
            on_right=on_right,
            center=torch.cat([main, second, third], 1),
            width=image.uniform(0.5, 0.95, 3) * spread,
            height=torch.cat(heights, 1),
            darkness=image.uniform(0.45, 0.68),
            line=image.uniform(0.20, 0.38),
        )
        lesion.height = lesion.height * lesion._fit(lungs, area * 4 * frame.zoom.square())
        return lesion

    def thickness(self, angle: Tensor) -> Tensor:
        """Of the air, as a share of the lung's radius, (B, N)."""
        total = torch.zeros_like(angle)
        for k in range(3):
            z = (angle - self.center[:, k : k + 1]) / self.width[:, k : k + 1]
            total = total + self.height[:, k : k + 1] * (1 - z.square()).clamp(min=0)
        return total.clamp(max=DEEPEST)

    def _fit(self, lungs: Lungs, area: Tensor) -> Tensor:
        """The factor (B, 1) on all heights at which the crescent has this area (body units), by bisection."""
        angle = torch.linspace(-1.6, 3.14, ANGLES, device=area.device).expand(len(area), -1).contiguous()
        on_right = self.on_right.expand_as(angle)
        wall = lungs.outline(angle, on_right)
        ellipse = _side(lungs.half_width, self.on_right) * _side(lungs.half_height, self.on_right)
        step = (3.14 + 1.6) / (ANGLES - 1)
        height, low, high = self.height, torch.zeros_like(area), torch.full_like(area, 3.0)
        radii = (torch.arange(5, device=area.device) + 0.5) / 5
        for _ in range(18):
            middle = (low + high) / 2
            self.height = height * middle
            depth = self.thickness(angle)
            # Rings of the crescent that lie above the diaphragm.
            covered = torch.zeros_like(area)
            for ring in radii:
                radius = wall * (1 - depth * ring)
                x, y = _place(lungs, radius, angle, self.on_right)
                above = y < lungs.diaphragm(x, on_right)
                covered = covered + (above * radius * wall * depth / len(radii)).sum(1, keepdim=True)
            too_small = covered * ellipse * step < area
            low, high = torch.where(too_small, middle, low), torch.where(too_small, high, middle)
        self.height = height
        return (low + high) / 2

    def collapse(self, vessels: Vessels, lungs: Lungs, rows: Tensor) -> None:
        """Moves the vessels of these rows to where the lung has drawn them in."""
        x, y = vessels.x[rows], vessels.y[rows]
        on_right = x > 0
        across, down = lungs.relative(x, y, on_right)
        left = 1 - self.thickness(torch.atan2(across, -down)) * (on_right == self.on_right)
        lateral, vessels.y[rows] = _at(lungs, across * left, down * left, on_right)
        vessels.x[rows] = torch.where(on_right, lateral, -lateral)

    def paint(self, lungs: Lungs, frame: Frame, side_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mask (bool), share of air (0 to 1, soft-edged) and attenuation of the pleural line, (B, N) each."""
        x, y = frame.body(side_px)
        on_right = self.on_right.expand_as(x)
        here = ((x > 0) == self.on_right).float()
        r, angle = lungs.polar(x, y, on_right)
        depth = self.thickness(angle) * here
        above = lungs.diaphragm(x, on_right) - y
        from_line = r - (1 - depth)
        # How far one unit of radius goes in the body, along the ray from the lung's center.
        across, down = lungs.relative(x, y, on_right)
        away = (across * _side(lungs.half_width, self.on_right)).square()
        away = (away + (down * _side(lungs.half_height, self.on_right)).square()).sqrt() / r.clamp(min=0.05)

        membership = torch.minimum(torch.minimum(from_line, 1 - r) * away, above)
        mask = (membership > 0) & (depth > 0)
        missed = ~mask.any(1, keepdim=True)
        most = torch.where(depth > 0, membership, -9.0).amax(1, keepdim=True)
        mask = mask | (missed & (membership == most))

        pixel = frame.pixel_size(side_px)
        soft = (0.002**2 + (0.35 * pixel).square()).sqrt()
        dry = torch.sigmoid(above / (0.006 + soft))
        air = torch.sigmoid(from_line * away / soft) * torch.sigmoid((1 - r) / 0.008) * (depth > 0) * dry
        sigma = 0.7 * MM
        sharp = (sigma**2 + (0.42 * pixel).square()).sqrt()
        line = torch.exp(-0.5 * (from_line * away / sharp).square()) * (sigma / sharp)
        # Where the air thins out, the line runs into the chest wall and is lost.
        line = line * (depth * away / (1.5 * MM)).clamp(0, 1) * dry
        return mask, air, self.line * line


def _side(per_lung: Tensor, on_right: Tensor) -> Tensor:
    return torch.where(on_right, per_lung[:, 1:2], per_lung[:, 0:1])


def _at(lungs: Lungs, across: Tensor, down: Tensor, on_right: Tensor) -> tuple[Tensor, Tensor]:
    """Lateral distance from the spine and y of a place in the lung's own axes: the inverse of `relative`."""
    from_center = down * _side(lungs.half_height, on_right)
    x = across * _side(lungs.half_width, on_right) + _side(lungs.shear, on_right) * from_center
    return x + _side(lungs.center_x, on_right), from_center + _side(lungs.center_y, on_right)


def _place(lungs: Lungs, radius: Tensor, angle: Tensor, on_right: Tensor) -> tuple[Tensor, Tensor]:
    """As `_at`, from radius (times the wall's) and angle."""
    return _at(lungs, radius * angle.sin(), -radius * angle.cos(), on_right)
