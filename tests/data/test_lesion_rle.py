"""Run-length codes of lesions become the masks they should, or errors that name what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo.data.decode.grayscale import UnreadableError
from pneumo.data.decode.lesion_rle import decode_rle


def naive_rle(text: str, height: int, width: int) -> np.ndarray:
    """Pixel by pixel, down one column after another."""
    mask = np.zeros((height, width), np.uint8)
    numbers = [int(number) for number in text.split()]
    at = 0
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        at += offset
        for _ in range(length):
            mask[at % height, at // height] = 255
            at += 1
    return mask


def encoded(mask: np.ndarray) -> str:
    flat = mask.T.ravel() > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    numbers, end = [], 0
    for start, stop in edges.reshape(-1, 2).tolist():
        numbers += [start - end, stop - start]
        end = stop
    return " ".join(map(str, numbers)) or "-1"


def test_a_code_runs_down_the_columns_from_zero() -> None:
    assert decode_rle(["0 2"], 3, 2).tolist() == [[255, 0], [255, 0], [0, 0]]


def test_an_offset_counts_from_the_end_of_the_run_before() -> None:
    # pixels 1 and 2 of the first column, then two further on: pixel 5, the foot of the second column
    assert decode_rle(["1 2 2 1"], 3, 2).tolist() == [[0, 0], [255, 0], [255, 255]]


def test_several_codes_are_united_and_overlaps_count_once() -> None:
    assert decode_rle(["0 2", "1 2"], 4, 1)[:, 0].tolist() == [255, 255, 255, 0]


@pytest.mark.parametrize("text", ["-1", " -1", ""])
def test_minus_one_is_no_lesion(text: str) -> None:
    assert not decode_rle([text], 4, 4).any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3", "3 numbers, must be pairs"),
        ("14 3", "run 14 to 17, out of the range of the 16 pixels of 4x4"),
        ("5 2 -7 1", "out of the range"),
        ("3 -2", "out of the range"),
        ("1 x", "not made of whole numbers"),
        ("1_0 2", "not made of whole numbers"),
        ("+1 2", "not made of whole numbers"),
    ],
)
def test_a_wrong_code_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        decode_rle([text], 4, 4)


masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.lists(st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda bits: np.array(bits, np.uint8).reshape(size) * 255
    )
)


@given(masks)
def test_decoding_undoes_encoding(mask: np.ndarray) -> None:
    assert (decode_rle([encoded(mask)], *mask.shape) == mask).all()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=4))
def test_decoding_equals_the_pixel_by_pixel_loop(runs: list[tuple[int, int]]) -> None:
    text = " ".join(f"{offset} {length}" for offset, length in runs)
    assert (decode_rle([text], 8, 7) == naive_rle(text, 8, 7)).all()
