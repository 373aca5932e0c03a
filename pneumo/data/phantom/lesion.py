"""The pneumothorax: air between chest wall and lung, a crescent in polar coordinates of the lung.

Shapes and units are those of frame.py. The angle is 0 at the apex, pi/2 laterally and pi at the base; the
radius is 1 at the chest wall."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.data.phantom.chest import Lungs, Vessels
from pneumo.data.phantom.frame import MM, Frame, Streams, decay, pick, soft_step
from pneumo.data.phantom.style import RowStyles

ANGLES, RINGS = 180, 5  # steps of the quadrature that turns an area into a thickness
DEEPEST = 0.85  # of the lung's radius


@dataclass
class Pneumothorax:
    """Thickness of the air over the angle, in one lung: three parabolas with centers, half-widths and heights
    (B, 3). Steeper curves would dent the lung's edge, which must stay convex."""

    on_right: Tensor
    center: Tensor
    width: Tensor
    height: Tensor
    darkness: Tensor
    line: Tensor
    line_sigma: Tensor

    @classmethod
    def draw(
        cls, lungs: Lungs, frame: Frame, image: Streams, style: RowStyles, area: Tensor, on_right: Tensor
    ) -> "Pneumothorax":
        """Draws lesions that cover a share `area` (B, 1) of the image, or as much as the lung allows."""
        kind = image.uniform(0.0, 1.0)
        apical, lateral = kind < 0.75, (kind >= 0.75) & (kind < 0.95)
        main = torch.where(
            apical,
            image.normal(0.30, 0.25),
            torch.where(lateral, image.normal(1.25, 0.25), image.normal(2.0, 0.12)),
        )
        # The second lies next to the first along the wall, the third anywhere.
        second = main + image.uniform(0.6, 1.4) * torch.where(main > 1.6, -1.0, 1.0)
        third = image.uniform(-0.5, 2.2)
        # Large lesions are longer; small ones are short rather than thinner than a line.
        spread = (area / 0.008).pow(0.35).clamp(0.45, 1.7)
        heights = [
            torch.ones_like(main),
            image.uniform(0.2, 0.7) * image.chance(0.5),
            image.uniform(0.15, 0.5) * image.chance(0.25),
        ]
        lesion = cls(
            on_right=on_right.float(),
            center=torch.cat([main, second, third], 1),
            width=image.uniform(0.5, 0.95, 3) * spread,
            height=torch.cat(heights, 1),
            darkness=image.uniform(0.45, 0.68) * style.air,
            line=image.uniform(0.20, 0.38) * style.line,
            line_sigma=0.7 * MM * style.line_width,
        )
        lesion.height = lesion.height * lesion._fit(
            lungs.one(lesion.on_right), area * 4 * frame.zoom.square()
        )
        return lesion

    def rows(self, rows: slice) -> "Pneumothorax":
        return Pneumothorax(**{name: value[rows] for name, value in vars(self).items()})

    def thickness(self, angle: Tensor) -> Tensor:
        """Returns the thickness (B, N) of the air, as a share of the lung's radius."""
        return _thickness(self.height, self._bumps(angle))

    def _bumps(self, angle: Tensor) -> list[Tensor]:
        """Returns the parabolas (B, N) at a height of 1."""
        z = [(angle - self.center[:, k : k + 1]) / self.width[:, k : k + 1] for k in range(3)]
        return [(1 - one.square()).clamp_(min=0) for one in z]

    def _fit(self, lungs: Lungs, area: Tensor) -> Tensor:
        """Returns the factor (B, 1) on all heights that gives the crescent this area (body units)."""
        angle = torch.linspace(-1.6, 3.14, ANGLES, device=area.device).expand(len(area), -1).contiguous()
        on_right = self.on_right.expand_as(angle)
        wall = lungs.outline(angle, on_right)
        ellipse = pick(lungs.half_width, self.on_right) * pick(lungs.half_height, self.on_right)
        step = (3.14 + 1.6) / (ANGLES - 1)
        bumps, low, high = self._bumps(angle), torch.zeros_like(area), torch.full_like(area, 3.0)
        ring = ((torch.arange(RINGS, device=area.device) + 0.5) / RINGS).repeat_interleave(ANGLES)
        sin, cos = angle.sin().repeat(1, RINGS), angle.cos().repeat(1, RINGS)
        wall, on_right = wall.repeat(1, RINGS), self.on_right.expand(-1, RINGS * ANGLES)
        for _ in range(18):
            middle = (low + high) / 2
            depth = _thickness(self.height * middle, bumps).repeat(1, RINGS)
            # Rings of the crescent that lie above the diaphragm.
            radius = wall * (1 - depth * ring)
            x, y = _axes_to_body(lungs, radius * sin, -radius * cos, self.on_right)
            above = y < lungs.diaphragm(x, on_right)
            rings = (above * radius * wall * depth / RINGS).reshape(-1, RINGS, ANGLES).sum(2)
            # One by one, since the last bit may decide the bisection.
            covered: Any = sum(rings[:, k : k + 1] for k in range(RINGS))
            too_small = covered * ellipse * step < area
            low, high = torch.where(too_small, middle, low), torch.where(too_small, high, middle)
        return (low + high) / 2

    def collapse(self, vessels: Vessels, lungs: Lungs, rows: Tensor) -> None:
        """Moves the vessels of these rows inwards with the collapsed lung."""
        x, y = vessels.x[rows], vessels.y[rows]
        on_right = (x > 0).float()
        across, down = lungs.relative(x, y, on_right)
        left = 1 - self.thickness(torch.atan2(across, -down)) * (on_right == self.on_right)
        lateral, vessels.y[rows] = _axes_to_body(lungs, across * left, down * left, on_right)
        vessels.x[rows] = torch.where(x > 0, lateral, -lateral)

    def paint(self, lungs: Lungs, frame: Frame, side_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the mask (bool), the share of air (0 to 1, soft-edged) and the attenuation of the pleural
        line, (B, N) each."""
        n, device = len(self.line), self.line.device
        mask = torch.zeros(n, side_px, side_px, dtype=torch.bool, device=device)
        air, line = torch.zeros(2, n, side_px, side_px, device=device)
        lungs = lungs.one(self.on_right)
        for row, box in enumerate(self._boxes(lungs, frame, side_px)):
            one = slice(row, row + 1)
            of_row = self.rows(one), lungs.rows(one), frame.rows(one), side_px
            painted = _paint_box(*of_row, *box)
            if not painted[0].any():
                box = slice(side_px), slice(side_px)
                painted = _paint_box(*of_row, *box)
            for canvas, part in zip((mask, air, line), painted, strict=True):
                canvas[(row, *box)] = part.reshape(canvas[(row, *box)].shape)
        return mask.flatten(1), air.flatten(1), line.flatten(1)

    def _boxes(self, lungs: Lungs, frame: Frame, side_px: int) -> list[tuple[slice, slice]]:
        """Returns the rows and columns of pixels, for each image, outside of which less than a millionth of
        the air and the line is seen."""
        angle = torch.linspace(-torch.pi, torch.pi, ANGLES, device=self.line.device)
        angle = angle.expand(len(self.line), -1)
        depth = self.thickness(angle)
        around = F.max_pool1d(depth, 5, stride=1, padding=2)  # the tips lie between two angles
        wall = lungs.outline(angle, self.on_right.expand_as(angle))
        soft = frame.pixel_size(side_px) + self.line_sigma  # at least that of the edges
        margin = 0.15 + 6 * soft / lungs.half_width
        # From the lung's center, where a ray has no direction and a pixel may have some air.
        radius = torch.cat([wall * (1 + margin), torch.zeros_like(wall)], 1)
        angle = angle.repeat(1, 2)
        x, y = _axes_to_body(lungs, radius * angle.sin(), -radius * angle.cos(), self.on_right)
        x = torch.where(self.on_right > 0, x, -x)
        return frame.boxes(x, y, (around > 0).repeat(1, 2), side_px)


def _paint_box(
    lesion: Pneumothorax, lungs: Lungs, frame: Frame, side_px: int, rows: slice, columns: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what `Pneumothorax.paint` does, of the pixels in some rows and columns of one image."""
    x, y = frame.body(side_px, rows, columns)
    on_right = lesion.on_right
    here = ((x > 0) == on_right).float()
    across, down = lungs.relative(x, y, on_right)
    r, angle = lungs.polar(across, down, on_right)
    depth = lesion.thickness(angle) * here
    above = lungs.diaphragm(x, on_right) - y
    from_line = r - (1 - depth)
    # How far one unit of radius goes in the body, along the ray from the lung's center.
    away = ((across * lungs.half_width).square() + (down * lungs.half_height).square()).sqrt()
    away = away / r.clamp(min=0.05)

    membership = torch.minimum(torch.minimum(from_line, 1 - r) * away, above)
    mask = (membership > 0) & (depth > 0)
    if rows == columns == slice(side_px) and not mask.any():
        mask = membership == torch.where(depth > 0, membership, -9.0).amax()

    pixel = frame.pixel_size(side_px)
    soft = (0.002**2 + (0.35 * pixel).square()).sqrt()
    dry = soft_step(above, 0.006 + soft)
    air = soft_step(from_line * away, soft) * soft_step(1 - r, 0.008) * (depth > 0) * dry
    sharp = (lesion.line_sigma.square() + (0.42 * pixel).square()).sqrt()
    line = decay(0.5 * (from_line * away / sharp).square()) * (lesion.line_sigma * sharp.reciprocal())
    # Where the air is thin, the line meets the chest wall and disappears.
    line = line * (depth * away / (1.5 * MM)).clamp(0, 1) * dry
    return mask, air, lesion.line * line


def _thickness(height: Tensor, bumps: list[Tensor]) -> Tensor:
    total = sum(height[:, k : k + 1] * bump for k, bump in enumerate(bumps))
    assert isinstance(total, Tensor)
    return total.clamp(max=DEEPEST)


def _axes_to_body(lungs: Lungs, across: Tensor, down: Tensor, on_right: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the distance from the spine and y of a point in the lung's axes: the inverse of `relative`."""
    from_center = down * pick(lungs.half_height, on_right)
    x = across * pick(lungs.half_width, on_right) + pick(lungs.shear, on_right) * from_center
    return x + pick(lungs.center_x, on_right), from_center + pick(lungs.center_y, on_right)
