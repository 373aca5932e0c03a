"""Tubes, wires, skin folds, the side marker and collimation.

Shapes and units are those of frame.py. All of these are drawn at full resolution, in the rows that have them.
"""

import torch
from torch import Tensor

from pneumo.data.phantom.frame import (
    MM,
    Frame,
    Streams,
    bezier,
    body_strokes,
    decay,
    n_points,
    soft_step,
    strokes,
)

PAD_REACH = 18 * MM  # beyond which less than a millionth of a lead's pad is seen
MARKER_STEPS = 24  # points of each of the marker's strokes, at 128 pixels


def chest_tube(frame: Frame, image: Streams, on_right: Tensor, side_px: int) -> Tensor:
    """Returns a tube (B, N) from the side up to the apex: two faint walls and a bright thread with a gap."""
    sign = torch.where(on_right, 1.0, -1.0)
    ends = [
        (image.uniform(0.92, 1.05), image.uniform(0.0, 0.4)),
        (image.uniform(0.68, 0.80), image.uniform(-0.05, 0.25)),
        (image.uniform(0.50, 0.72), image.uniform(-0.45, -0.15)),
        (image.uniform(0.20, 0.48), image.uniform(-0.68, -0.15)),
    ]
    controls = torch.stack([torch.cat([sign * x, y], 1) for x, y in ends], 1)
    x, y = bezier(controls, n_points(1.3, side_px))
    dx, dy = torch.gradient(x, dim=1)[0], torch.gradient(y, dim=1)[0]
    speed = (dx.square() + dy.square()).sqrt().clamp(min=1e-6)
    half = image.uniform(2.4, 3.6) * MM
    bright = image.uniform(0.7, 1.2)
    t = torch.linspace(0, 1, x.shape[1], device=x.device)
    gap = image.uniform(0.7, 0.85)
    thread = bright * (((t - gap).abs() > 0.02).float())
    tube = torch.zeros(len(x), side_px * side_px, device=x.device)
    for offset, level, sigma in ((-1.0, 0.11, 0.5), (1.0, 0.11, 0.5), (0.55, 0.30, 0.6)):
        amplitude = level * (thread if level > 0.2 else bright)
        px, py = x + offset * half * dy / speed, y - offset * half * dx / speed
        tube = torch.maximum(
            tube, body_strokes(frame, px, py, half.new_tensor(sigma * MM), amplitude, side_px, sigma * MM)
        )
    return tube


def wires(frame: Frame, image: Streams, side_px: int) -> Tensor:
    """Returns two monitoring leads (B, N) across the chest."""
    total = torch.zeros(len(frame.zoom), side_px * side_px, device=frame.zoom.device)
    for sign in (-1.0, 1.0):
        start = torch.cat([sign * image.uniform(0.25, 0.8), image.uniform(-0.75, -0.2)], 1)
        end = torch.cat([sign * image.uniform(-0.3, 0.9), image.uniform(0.6, 1.3)], 1)
        middle = (start + end) / 2
        controls = torch.stack(
            [start, middle + image.normal(0.0, 0.3, 2), middle + image.normal(0.0, 0.3, 2), end], 1
        )
        x, y = bezier(controls, n_points(2.2, side_px))
        sigma = (0.45 * MM) * torch.ones_like(start[:, :1])
        lead = body_strokes(frame, x, y, sigma, image.uniform(0.2, 0.6), side_px, 0.45 * MM)
        total = torch.maximum(total, lead)
        around = PAD_REACH * start.new_tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        corners = start[:, None] + around
        counts = torch.ones_like(corners[..., 0], dtype=torch.bool)
        for row, box in enumerate(frame.boxes(corners[..., 0], corners[..., 1], counts, side_px)):
            one = slice(row, row + 1)
            px, py = frame.rows(one).body(side_px, *box)
            distance = ((px - start[one, :1]).square() + (py - start[one, 1:]).square()).sqrt()
            disc, hole = (soft_step(radius * MM - distance, 0.6 * MM) for radius in (6, 2))
            part = total[row].view(side_px, side_px)[box]
            torch.maximum(part, (0.12 * (disc - 0.7 * hole)).reshape(part.shape), out=part)
    return total


def lines_and_airway(frame: Frame, image: Streams, side_px: int) -> Tensor:
    """Returns a central venous line and, in half of the images, a tracheal tube (B, N)."""
    side = torch.where(image.chance(0.7), -1.0, 1.0)
    ends = [
        (side * image.uniform(0.14, 0.45), image.uniform(-1.0, -0.7)),
        (side * image.uniform(0.10, 0.25), image.uniform(-0.65, -0.5)),
        (image.normal(-0.10, 0.015), image.normal(-0.4, 0.03)),
        (image.normal(-0.10, 0.015), image.uniform(-0.25, 0.05)),
    ]
    x, y = bezier(torch.stack([torch.cat(end, 1) for end in ends], 1), n_points(1.2, side_px))
    sigma = torch.full_like(x[:, :1], 0.6 * MM)
    line = body_strokes(frame, x, y, sigma, image.uniform(0.10, 0.22), side_px, 0.6 * MM)
    t = torch.linspace(0, 1, n_points(0.75, side_px), device=x.device)
    tube_x = image.normal(-0.005, 0.01) + image.normal(0.0, 0.01) * t
    tube_y = -1.05 + t * image.uniform(0.6, 0.75)
    strength = image.uniform(0.12, 0.22) * image.chance(0.5)
    return torch.maximum(line, body_strokes(frame, tube_x, tube_y, sigma, strength, side_px, 0.6 * MM))


def skin_fold(frame: Frame, image: Streams, side_px: int) -> Tensor:
    """Returns a fold (B, N): an edge down one lung, dense on its inner side, without a line."""
    x, y = frame.body(side_px)
    sign = torch.where(image.chance(0.5), 1.0, -1.0)
    position = image.uniform(0.42, 0.74) + image.normal(0.12, 0.10) * y + image.normal(0.0, 0.12) * y.square()
    inwards = position - sign * x
    soft = (0.003**2 + (0.35 * frame.pixel_size(side_px)).square()).sqrt()
    top, bottom = image.uniform(-0.8, -0.3), image.uniform(0.0, 0.5)
    span = soft_step(y - top, 0.05) * soft_step(bottom - y, 0.05)
    fade = decay(inwards.clamp(min=0) / image.uniform(0.06, 0.2))
    return image.uniform(0.03, 0.085) * soft_step(inwards, soft) * fade * span


def side_marker(frame: Frame, image: Streams, side_px: int) -> Tensor:
    """Returns an upright lead letter L or R (B, N) in an upper corner."""
    is_left = image.chance(0.6)
    t = torch.linspace(0, 1, max(MARKER_STEPS, MARKER_STEPS * side_px // 128), device=frame.zoom.device)
    one, arc = torch.ones_like(t), torch.pi * t
    stem, foot = (0 * t, t), (0.55 * t, one)
    bowl, leg = (0.5 * arc.sin(), 0.25 - 0.25 * arc.cos()), (0.55 * t, 0.5 + 0.5 * t)
    letter_l = torch.stack([torch.cat(p) for p in zip(stem, foot, foot, strict=True)])
    letter_r = torch.stack([torch.cat(p) for p in zip(stem, bowl, leg, strict=True)])
    size = image.uniform(0.030, 0.050) * side_px
    corner_x = torch.where(is_left, image.uniform(0.86, 0.93), image.uniform(0.04, 0.10)) * side_px
    corner_y = image.uniform(0.04, 0.16) * side_px
    column = corner_x + size * torch.where(is_left, letter_l[0], letter_r[0])
    row = corner_y + size * torch.where(is_left, letter_l[1], letter_r[1])
    sigma = (0.12 * size).expand_as(column)
    level = image.uniform(0.5, 0.9).expand_as(column)
    return strokes(column, row, sigma, level, side_px, 0.006 * side_px)


def collimation(image: Streams, margin: Tensor, side_px: int) -> Tensor:
    """Returns 1 in the exposed field and 0 outside its edges, of which there are at most four, (B, N)."""
    margins = image.uniform(-0.16, 0.05, 4) + margin
    axis = (torch.arange(side_px, device=margins.device) + 0.5) / side_px
    soft = max(0.002, 0.3 / side_px)
    left, right, top, bottom = (margins[:, i : i + 1] for i in range(4))
    across = torch.sigmoid((axis - left) / soft) * torch.sigmoid((1 - right - axis) / soft)
    down = torch.sigmoid((axis - top) / soft) * torch.sigmoid((1 - bottom - axis) / soft)
    return (down[:, :, None] * across[:, None, :]).flatten(1)
