"""Plots of images as matplotlib figures, which are neither shown nor saved here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import contour_generator
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pneumo.evaluation.metrics import Array
from pneumo.evaluation.plots import POSITIVE, plain

GLOW = (255, 217, 0)  # of a map over an image
OPACITY = 0.8  # of the glow where the map is 1
IMAGES_PER_ROW = 4
SIDE, GAP, MARGIN = 1.52, 0.06, 0.1  # inches
LINE = 0.15  # inches, of a title above an image
HEADING = 0.34


class Sheet:
    """A figure in which each image has its place, in inches from the upper left corner. One axes has all of
    them: with an axes for each, matplotlib takes several times as long."""

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self._axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self._axes.set_axis_off()

    def image(self, left: float, top: float, image: Array, title: str = "", colour: str = "black") -> None:
        """image (H, W) in [0, 1], or (H, W, 3) uint8, SIDE wide, with its title above it."""
        place = (left, left + SIDE, top + SIDE, top)
        self._axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=place, aspect="auto")
        self.text(left + SIDE / 2, top - 0.04, title, colour, fontsize=8)

    def outline(self, left: float, top: float, mask: Array) -> None:
        """The outline of a lesion, mask (S, S) uint8, on the image at this place; none of an empty mask."""
        if mask.any():
            side = SIDE / len(mask)  # of a pixel, whose centre the lines count from
            lines = contour_generator(z=mask).lines(mask.max() / 2)
            scaled = [np.asarray(line) * side + (left + side / 2, top + side / 2) for line in lines]
            self._axes.add_collection(LineCollection(scaled, colors=POSITIVE, linewidths=0.9), autolim=False)

    def text(self, centre: float, bottom: float, text: str, colour: str = "black", **font: Any) -> None:
        self._axes.text(centre, bottom, text, color=colour, ha="center", va="bottom", **font)


@dataclass(frozen=True)
class Tiles:
    """images (n, H, W) in [0, 1], masks (n, H, W) uint8, maps (n, H, W) in [0, 1]; a caption and whether it
    was called wrong of each."""

    heading: str
    images: Array
    masks: Array
    maps: Array
    captions: Sequence[tuple[str, str]]
    wrong: Sequence[bool]


def saliency_grid(title: str, groups: Sequence[Tiles]) -> Figure:
    """Each image twice: with its lesion outlined, and with its saliency map on top."""
    across, down = 2 * SIDE + 4 * GAP, SIDE + LINE + 2 * GAP
    rows = [-(-len(group.images) // IMAGES_PER_ROW) for group in groups]
    width = 2 * MARGIN + IMAGES_PER_ROW * across - 3 * GAP
    sheet = Sheet(width, HEADING + len(groups) * HEADING + sum(rows) * down + MARGIN)
    sheet.text(width / 2, HEADING, plain(title), fontsize=12)
    above = HEADING
    for group, n_rows in zip(groups, rows, strict=True):
        above += HEADING
        sheet.text(width / 2, above, plain(group.heading), fontsize=10, fontweight="bold")
        for place, (image, mask, map_, (name, call), wrong) in enumerate(
            zip(group.images, group.masks, group.maps, group.captions, group.wrong, strict=True)
        ):
            row, column = divmod(place, IMAGES_PER_ROW)
            left, top = MARGIN + column * across, above + row * down + LINE + 2 * GAP
            colour = POSITIVE if wrong else "black"
            sheet.image(left, top, image, plain(shortened(name)), colour)
            sheet.outline(left, top, mask)
            left += SIDE + GAP
            sheet.image(left, top, glowing(image, map_), plain(call), colour)
            sheet.outline(left, top, mask)
        above += n_rows * down
    return sheet.figure


def glowing(image: Array, map_: Array) -> Array:
    """(H, W) in [0, 1] each -> (H, W, 3) uint8: the image, covered by GLOW where its map is high."""
    cover = OPACITY * map_[..., None]
    covered: Array = (255 * image[..., None] * (1 - cover) + np.array(GLOW) * cover).round().astype(np.uint8)
    return covered


def augmented(originals: Array, variants: Array, labels: Array, captions: Sequence[Sequence[str]]) -> Figure:
    """originals (n, H, W) uint8, variants (n, k, h, w) in [0, 1]: each image and its augmented variants.
    captions: n rows of k."""
    rows, columns = variants.shape[:2]
    across, down = SIDE + 2 * GAP, SIDE + LINE + 2 * GAP
    sheet = Sheet(2 * MARGIN + (columns + 1) * across - 2 * GAP, rows * down + 2 * MARGIN)
    for row in range(rows):
        top, called = MARGIN + row * down + LINE, "pneumothorax" if labels[row] else "none"
        colour = POSITIVE if labels[row] else "black"
        sheet.image(MARGIN, top, originals[row] / 255, f"stored: {called}", colour)
        for column in range(columns):
            left = MARGIN + (column + 1) * across
            sheet.image(left, top, variants[row, column], captions[row][column])
    return sheet.figure


def labelled(images: Array, masks: Array, labels: Array, ids: Sequence[str]) -> Figure:
    """images (n, h, w) in [0, 1] and masks (n, h, w) uint8: a batch, lesions outlined."""
    columns = min(8, len(images))
    across, down = SIDE + 2 * GAP, SIDE + 2 * LINE + 2 * GAP
    height = -(-len(images) // columns) * down + 2 * MARGIN
    sheet = Sheet(2 * MARGIN + columns * across - 2 * GAP, height)
    for place, (image, mask, label, name) in enumerate(zip(images, masks, labels, ids, strict=True)):
        row, column = divmod(place, columns)
        left, top = MARGIN + column * across, MARGIN + row * down + 2 * LINE
        title = f"{plain(shortened(name))}\n{'pneumothorax' if label else 'none'}"
        sheet.image(left, top, image, title, POSITIVE if label else "black")
        sheet.outline(left, top, mask)
    return sheet.figure


def shortened(name: str, longest: int = 20) -> str:
    """The end of a long name, where ids differ."""
    return name if len(name) <= longest else "…" + name[-longest + 1 :]
