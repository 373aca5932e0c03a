"""Random streams of patients and images, the frame of an image on the body, and the drawing of lines.

B is the number of images, N of points or pixels, and P of points of a line. One body unit is half the nominal
field, 200 mm; x points to the right of the image, y down, and the spine is at x = 0.
"""

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

MM = 1 / 200  # body units
POOL = 4096  # random numbers of one stream
LARGEST_EXPONENT = 80.0  # exp is ten times as slow where it underflows


class Streams:
    """One random stream per key. Row i of all results depends only on key i and the order of calls, in which
    the shapes must be the same for all rows."""

    def __init__(self, keys: Sequence[str], device: torch.device) -> None:
        self._generators = [np.random.default_rng(_seed_of(key)) for key in keys]
        pool = np.stack([generator.random(POOL, dtype=np.float32) for generator in self._generators])
        # Strictly between 0 and 1, so that a normal is finite.
        self._pool = torch.from_numpy(pool).mul_(0.9998).add_(0.0001).to(device)
        self._used = 0
        self._rows = slice(None)
        self._normal: dict[int, Tensor] = {}  # those drawn, by their place in the pool, of all rows

    def rows(self, rows: slice) -> "Streams":
        """Returns the streams of some rows, which go on from where these are."""
        part = copy(self)
        part._generators, part._rows = self._generators[rows], rows
        return part

    def go_on_after(self, part: "Streams") -> None:
        """Goes on from where the streams of some rows are."""
        self._used = part._used

    def _take(self, shape: tuple[int, ...]) -> slice:
        start, self._used = self._used, self._used + (prod(shape) if shape else 1)
        assert self._used <= POOL, "a stream's pool is too small"
        return slice(start, self._used)

    def _shaped(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
        return numbers.reshape(-1, *shape) if len(shape) > 1 else numbers

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """Returns (B, *shape) numbers from low to high; (B, 1) without a shape, to broadcast with (B, N)."""
        return low + (high - low) * self._shaped(self._pool[self._rows, self._take(shape)], shape)

    def normal(self, mean: float | Tensor, spread: float, *shape: int) -> Tensor:
        """Returns (B, *shape) normal numbers, clipped at 2.5 spreads so that the anatomy stays plausible."""
        place = self._take(shape)
        standard = self._normal.get(place.start)
        if standard is None:
            standard = torch.special.ndtri(self._pool[:, place]).clamp_(-2.5, 2.5)
            self._normal[place.start] = standard
        return mean + spread * self._shaped(standard[self._rows], shape)

    def chance(self, probability: float | Tensor, *shape: int) -> Tensor:
        """Returns (B, *shape) booleans that are true with this probability; (B, 1) without a shape."""
        return self._shaped(self._pool[self._rows, self._take(shape)], shape) < probability

    def pixel_noise(self, side_px: int) -> Tensor:
        """Returns (B, side, side) standard normal numbers, on the CPU."""
        size = (side_px, side_px)
        noise = [generator.standard_normal(size, dtype=np.float32) for generator in self._generators]
        return torch.from_numpy(np.stack(noise))


def _seed_of(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16).digest(), "big")


@dataclass
class Frame:
    """Rotation, zoom and shift of the image on the body. Fields are (B, 1); zoom > 1 shows more."""

    zoom: Tensor
    tilt_radians: Tensor
    shift_x: Tensor
    shift_y: Tensor

    SMALLEST_ZOOM = 0.78

    def rows(self, rows: Tensor | slice) -> "Frame":
        return Frame(self.zoom[rows], self.tilt_radians[rows], self.shift_x[rows], self.shift_y[rows])

    def pixel_size(self, side_px: int) -> Tensor:
        """Returns the side of a pixel (B, 1) in body units."""
        return 2 * self.zoom / side_px

    def body(
        self, side_px: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Returns body x and y of every pixel centre, (B, N) each with N = side * side, or of the pixels in
        some rows and columns."""
        axis = (torch.arange(side_px, device=self.zoom.device, dtype=torch.float32) + 0.5) * (2 / side_px) - 1
        v, u = (grid.reshape(1, -1) for grid in torch.meshgrid(axis[rows], axis[columns], indexing="ij"))
        cos, sin = self.zoom * self.tilt_radians.cos(), self.zoom * self.tilt_radians.sin()
        return cos * u - sin * v + self.shift_x, sin * u + cos * v + self.shift_y

    def pixels(self, x: Tensor, y: Tensor, side_px: int) -> tuple[Tensor, Tensor]:
        """Returns fractional column and row of body points, (B, P) each."""
        cos, sin = self.tilt_radians.cos() / self.zoom, self.tilt_radians.sin() / self.zoom
        x, y = x - self.shift_x, y - self.shift_y
        u, v = cos * x + sin * y, cos * y - sin * x
        return (u + 1) * (side_px / 2) - 0.5, (v + 1) * (side_px / 2) - 0.5

    def boxes(self, x: Tensor, y: Tensor, counts: Tensor, side_px: int) -> list[tuple[slice, slice]]:
        """Returns the rows and the columns, for each image, that contain those body points (B, P) that count
        (bool). They may be empty."""
        boxes = []
        for at in reversed(self.pixels(x, y, side_px)):
            low = torch.where(counts, at, torch.inf).amin(1).floor() - 1
            high = torch.where(counts, at, -torch.inf).amax(1).ceil() + 2
            bounds = torch.stack([low, high], 1).clamp(0, side_px).int().tolist()
            boxes.append([slice(*both) for both in bounds])
        return list(zip(*boxes, strict=True))


def n_points(length: float, side_px: int) -> int:
    """Returns the number of points that leave no gap along a line of this length (body units)."""
    return max(4, int(np.ceil(length * side_px / 2 / Frame.SMALLEST_ZOOM)))


def strokes(
    column: Tensor, row: Tensor, sigma_px: Tensor, amplitude: Tensor, side_px: int, widest_px: float
) -> Tensor:
    """Returns lines of a Gaussian profile through points (B, P), in pixels, as images (B, side * side).

    Where lines meet, the strongest counts, so that the result does not depend on the order or the device. A
    line finer than a pixel fades instead of widening. `widest_px` is an upper bound of sigma_px; it is given,
    since the result must not depend on the other images of the batch."""
    sharp = (sigma_px.square() + 0.16).sqrt()
    amplitude = amplitude * sigma_px / sharp
    reach = int(np.ceil(2 * np.hypot(widest_px, 0.4)))
    # What is outside the image is drawn on its border, which is cut off.
    border = 2 * reach + 1
    outside = -reach - 1, side_px + reach
    column, row = column.clamp(*outside), row.clamp(*outside)
    near_column, near_row = column.round(), row.round()
    near = torch.arange(-reach, reach + 1, device=column.device, dtype=torch.float32)
    across = torch.exp(-0.5 * ((near_column - column)[..., None] + near).div(sharp[..., None]).square())
    down = torch.exp(-0.5 * ((near_row - row)[..., None] + near).div(sharp[..., None]).square())
    value = amplitude[..., None, None] * down[..., :, None] * across[..., None, :]

    wide = side_px + 2 * border
    at = (near_row.long() + border) * wide + near_column.long() + border
    index = at[..., None] + (near.long()[:, None] * wide + near.long()).flatten()
    canvas = value.new_zeros(len(column), wide * wide)
    canvas.scatter_reduce_(1, index.flatten(1), value.flatten(1), "amax")
    inside = slice(border, border + side_px)
    return canvas.reshape(-1, wide, wide)[:, inside, inside].flatten(1)


def body_strokes(
    frame: Frame, x: Tensor, y: Tensor, sigma: Tensor, amplitude: Tensor, side_px: int, widest: float
) -> Tensor:
    """Returns `strokes` through body points, with sigma and widest in body units."""
    column, row = frame.pixels(x, y, side_px)
    sigma_px = (sigma / frame.pixel_size(side_px)).expand_as(column)
    widest_px = widest * side_px / 2 / Frame.SMALLEST_ZOOM
    return strokes(column, row, sigma_px, amplitude.expand_as(column), side_px, widest_px)


def bezier(controls: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Returns x and y, (B, n) each, of the cubic Bezier curve with control points (B, 4, 2)."""
    t = torch.linspace(0, 1, n, device=controls.device)[:, None]
    s = 1 - t
    a, b, c, d = (controls[:, None, i] for i in range(4))
    points = s**3 * a + 3 * s**2 * t * b + 3 * s * t**2 * c + t**3 * d
    return points[..., 0], points[..., 1]


def pick(per_lung: Tensor, on_right: Tensor) -> Tensor:
    """Returns a parameter (B, 2) of the lungs, left and right in the image, at points (B, N), where
    `on_right` is 0 or 1; that of one lung, (B, 1), as it is."""
    if per_lung.shape[1] == 1:
        return per_lung
    # Exact, and faster than `torch.where`: one of the summands is zero.
    at_points: Tensor = torch.addcmul(per_lung[:, 0:1] * (1 - on_right), on_right, per_lung[:, 1:2])
    return at_points


def soft_step(x: Tensor, softness: Any) -> Tensor:
    """Returns a step from 0 to 1 at x = 0, about four times `softness` wide."""
    exponent: Tensor = x / softness
    return exponent.clamp_(min=-LARGEST_EXPONENT).sigmoid_()


def decay(x: Tensor) -> Tensor:
    """Returns exp(-x) of numbers of at least 0."""
    return x.neg().clamp_(min=-LARGEST_EXPONENT).exp_()
