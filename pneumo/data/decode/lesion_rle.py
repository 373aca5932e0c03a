"""Decodes the run-length codes of lesions in SIIM-ACR."""

import re
from collections.abc import Sequence

import numpy as np

from pneumo.data.decode.grayscale import Pixel, UnreadableError

NO_LESION = ("-1", "")  # of a run-length code

WHOLE_NUMBERS = re.compile(r"[-0-9\s]*")


def decode_rle(texts: Sequence[str], height: int, width: int) -> Pixel:
    """Returns the union of the lesions of run-length codes as a (height, width) mask of 0 and 255.

    A code consists of pairs (offset from the end of the run before, length), 0-based, column by column; "-1"
    is no lesion. Raises UnreadableError if a code has an odd number of values or leaves the image."""
    flat = np.zeros(height * width, np.uint8)
    for text in texts:
        if text.strip() in NO_LESION:
            continue
        try:
            if not WHOLE_NUMBERS.fullmatch(text):  # int() would take "1_0" for 10
                raise ValueError
            numbers = [int(number) for number in text.split()]
        except ValueError:
            raise UnreadableError(
                f'the run-length code "{text[:20]}..." is not made of whole numbers'
            ) from None
        if len(numbers) % 2:
            raise UnreadableError(f"the run-length code has {len(numbers):,} numbers, must be pairs")
        end = 0
        for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
            start, end = end + offset, end + offset + length
            if offset < 0 or length < 0 or end > flat.size:
                raise UnreadableError(
                    f"the run-length code has a run {start:,} to {end:,}, out of the range of the "
                    f"{flat.size:,} pixels of {_size((height, width))}"
                )
            flat[start:end] = 255
    return flat.reshape(width, height).T


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
