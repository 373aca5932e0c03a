"""Limits and grey values that the decoders of image files and of DICOM files share."""

import numpy as np
import numpy.typing as npt

DETECTOR_BITS = (8, 10, 12, 14, 16)
MAX_PIXELS = 2**26  # 8,192 x 8,192, four times the largest detectors; a forged header can claim far more

Pixel = npt.NDArray[np.uint8]


class UnreadableError(Exception):
    """An image, mask or run-length code cannot be decoded; the message names the file and the reason."""


def need_size(height: int, width: int) -> None:
    """Raises UnreadableError if a header claims no pixels or too many, before memory is allocated."""
    if not 0 < height * width <= MAX_PIXELS:
        raise UnreadableError(
            f"is {width:,} x {height:,} pixels ({height * width:,}); from 1 to {MAX_PIXELS:,} can be read"
        )


def detector_top(values: npt.NDArray[np.int64]) -> int:
    """Returns the top of the smallest detector range that holds the values. Raises UnreadableError."""
    largest = int(values.max())
    bits = next((bits for bits in DETECTOR_BITS if largest < 2**bits), None)
    if bits is None or values.min() < 0:
        raise UnreadableError(f"has values from {values.min()} to {largest}; 0 to 65535 can be read")
    return (1 << bits) - 1


def eight_bits(shares: npt.NDArray[np.float64]) -> Pixel:
    """Returns shares of 0 to 1 as 0 to 255; others are clipped."""
    scaled: Pixel = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return scaled
