"""Reads one file as the square image that a model takes, and flags what is no frontal chest radiograph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo.data.decode.grayscale import Pixel
from pneumo.data.decode.images import header_flag, load_grey_and_colour, resized

CHECKED_SIDE_PX = 64  # side; of 1,014 NIH radiographs the nearest to each limit is named beside it
COLOURFUL = 8  # of 255, mean difference of the channels: 0
LONGEST = 2.0  # one side to the other: 1.0
FLATTEST = 0.15  # between the 2nd and the 98th percentile, black to white being 1: .36
DARK_EDGE = 0.10  # mean of the brightest of the four edges: .18
EDGE = 3  # of 64 pixels


@dataclass(frozen=True)
class Radiograph:
    """`pixels` (side, side), and why they are plainly no frontal chest radiograph ("" = they may be one)."""

    pixels: Pixel
    flag: str


def read_radiograph(path: Path, side_px: int) -> Radiograph:
    """Raises UnreadableError, which names the file."""
    grey, colour = load_grey_and_colour(path.parent, path.name)
    flags = header_flag(path.parent, path.name), implausibility(grey, colour)
    return Radiograph(resized(grey, side_px), "; ".join(flag for flag in flags if flag))


def implausibility(grey: Pixel, colour: float) -> str:
    """What is plainly unlike a frontal chest radiograph in (H, W) and in the mean difference of its colours'
    channels, 0 to 255; "" = nothing. It knows four things alone: a grey photograph, another part of the
    body or a lateral view passes, unless its DICOM header says so (`header_flag`)."""
    if colour > COLOURFUL:
        return "in colour"
    height, width = grey.shape
    if max(height, width) > LONGEST * min(height, width):
        return f"{width:,} x {height:,} pixels, too narrow"
    small = resized(grey, CHECKED_SIDE_PX) / 255
    darkest, brightest = np.percentile(small, [2, 98])
    if brightest - darkest < FLATTEST:
        return "nearly one shade"
    edges = (small[:EDGE], small[-EDGE:], small[:, :EDGE], small[:, -EDGE:])
    if max(edge.mean() for edge in edges) < DARK_EDGE:
        return "dark all around, as a CT slice is"
    return ""
