"""Pictures become the arrays they should, or errors that name what is wrong."""

import io
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

from pneumo.data.decode.grayscale import MAX_PIXELS, UnreadableError
from pneumo.data.decode.images import FilePixels, ImageFile, load_grey, resized, resized_mask

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def saved(folder: Path, picture: Image.Image, name: str = "a.png") -> np.ndarray:
    picture.save(folder / name)
    return load_grey(folder, name)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_every_mode_of_a_grey_picture_gives_the_same_grey(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(RAMP).convert(mode)
    assert (saved(tmp_path, picture) == RAMP).all()


def test_a_one_bit_picture_is_black_and_white(tmp_path: Path) -> None:
    bits = RAMP > 100
    assert (saved(tmp_path, Image.fromarray(bits)) == bits * 255).all()


def test_alpha_is_ignored(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP, RAMP, np.zeros_like(RAMP)], axis=2)
    assert (saved(tmp_path, Image.fromarray(colours)) == RAMP).all()


def test_sixteen_bits_keep_their_exposure(tmp_path: Path) -> None:
    deep = np.array([[0, 257], [65535, 32896]], np.uint16)
    assert saved(tmp_path, Image.fromarray(deep)).tolist() == [[0, 1], [255, 128]]


def test_a_twelve_bit_radiograph_in_sixteen_bits_is_not_black(tmp_path: Path) -> None:
    deep = np.array([[0, 4095], [2048, 1024]], np.uint16)
    assert saved(tmp_path, Image.fromarray(deep)).tolist() == [[0, 255], [128, 64]]


UPRIGHT = {  # EXIF 2.3, table 6: where the 0th row and the 0th column of what is stored belong
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored.T[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: stored.T[::-1],
}


def turned(path: Path, pixels: np.ndarray, orientation: int, **how: object) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **how)
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("a.jpg", {"quality": 100}),
    ],
)
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, name: str, how: dict, orientation: int) -> None:
    stored = np.kron(np.random.default_rng(0).integers(0, 256, (3, 2), np.uint8), np.ones((16, 16), np.uint8))
    turned(tmp_path / name, stored, orientation, **how)
    found = load_grey(tmp_path, name)
    expected = UPRIGHT[orientation](stored)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (2 if name == "a.jpg" else 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_turned_too(tmp_path: Path, name: str) -> None:
    stored = np.random.default_rng(0).integers(0, 65_536, (5, 3), np.uint16)
    turned(tmp_path / name, stored, 6)
    assert np.abs(load_grey(tmp_path, name) - UPRIGHT[6](stored) / 257).max() <= 0.51


def test_a_mask_is_turned_as_its_own_exif_says(tmp_path: Path) -> None:
    lesion = np.zeros((8, 8), np.uint8)
    lesion[:2, :3] = 255
    turned(tmp_path / "a.png", RAMP, 8)
    turned(tmp_path / "m.png", lesion, 8)
    (block,) = FilePixels(tmp_path, [ImageFile("a.png", mask="m.png")]).blocks(8)
    assert (block.pixels[0] == UPRIGHT[8](RAMP)).all()
    assert (block.masks[0] == UPRIGHT[8](lesion)).all()


def test_a_damaged_exif_block_costs_no_picture(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", quality=100, exif=b"Exif\0\0" + bytes(range(60)))
    assert np.abs(load_grey(tmp_path, "a.jpg").astype(int) - RAMP).max() <= 2


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("a.tif", {}, "a.tif has 3 pages; one can be read"),
        ("a.gif", {}, "a.gif has 3 frames; one can be read"),
        ("a.png", {}, "a.png has 3 frames; one can be read"),
        ("a.webp", {"lossless": True}, "a.webp has 3 frames; one can be read"),
    ],
)
def test_several_frames_are_refused_with_their_number(
    tmp_path: Path, name: str, how: dict, said: str
) -> None:
    first, *others = (Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in (10, 90, 200))
    first.save(tmp_path / name, save_all=True, append_images=others, **how)
    with pytest.raises(UnreadableError, match=said):
        load_grey(tmp_path, name)


def test_of_a_phones_jpeg_with_other_views_behind_it_the_first_is_read(tmp_path: Path) -> None:
    first, *others = (Image.new("L", (8, 8), grey) for grey in (10, 200))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=others)
    assert (load_grey(tmp_path, "a.jpg") == 10).all()


@pytest.mark.parametrize("name", ["a.gif", "a.bmp", "a.ppm", "a.jp2"])
def test_less_usual_formats_give_back_each_pixel(tmp_path: Path, name: str) -> None:
    assert (saved(tmp_path, Image.fromarray(RAMP), name) == RAMP).all()


def test_shrinking_averages_areas() -> None:
    grey = np.array([[0, 100, 8, 8], [100, 200, 8, 8]] * 2, np.uint8)
    assert resized(grey, 2).tolist() == [[100, 8], [100, 8]]


def test_a_picture_that_is_not_square_is_squashed() -> None:
    assert resized(np.repeat(np.array([[10, 200]], np.uint8), 8, axis=0).repeat(2, axis=1), 2).tolist() == [
        [10, 200],
        [10, 200],
    ]


@pytest.mark.parametrize("place", [(0, 0), (999, 999), (500, 123)])
def test_a_lesion_of_one_pixel_never_vanishes(place: tuple[int, int]) -> None:
    mask = np.zeros((1000, 1000), np.uint8)
    mask[place] = 255
    small = resized_mask(mask, 16)
    assert small.shape == (16, 16)
    assert np.argwhere(small).tolist() == [[place[0] * 16 // 1000, place[1] * 16 // 1000]]


def test_a_shrunk_mask_keeps_its_area() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[3:21, 5:30] = 255
    assert resized_mask(mask, 16).sum() / 255 / 16**2 == pytest.approx(18 * 25 / 64**2, rel=0.01)


def test_a_truncated_png_is_said_to_be_truncated(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    saved(tmp_path, Image.fromarray(noise))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:2000])
    with pytest.raises(
        UnreadableError, match=r"^a.png is not a readable image \(truncated after 2,000 bytes\)"
    ):
        load_grey(tmp_path, "a.png")


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    saved(tmp_path, Image.fromarray(noise))
    broken = bytearray((tmp_path / "a.png").read_bytes())
    broken[2000] ^= 1
    (tmp_path / "a.png").write_bytes(broken)
    with pytest.raises(UnreadableError, match=r"a.png is not a readable image \(broken PNG file"):
        load_grey(tmp_path, "a.png")


def test_a_broken_file_never_raises_anything_else(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "png")
    whole, choose = bytearray(buffer.getvalue()), random.Random(0)
    refused = []
    for _ in range(300):
        broken = whole.copy()
        for _ in range(3):
            broken[choose.randrange(len(broken))] = choose.randrange(256)
        (tmp_path / "b.png").write_bytes(broken[: choose.randrange(len(broken) + 1)])
        try:
            load_grey(tmp_path, "b.png")
        except UnreadableError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(said.startswith("b.png ") for said in refused)


@pytest.mark.parametrize("side", [8_193, 60_000])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    forged = bytearray((tmp_path / "a.png").read_bytes())
    forged[16:24] = struct.pack(">2I", side, side)  # IHDR: width and height
    forged[29:33] = struct.pack(">I", zlib.crc32(forged[12:29]))
    (tmp_path / "a.png").write_bytes(forged)
    with pytest.raises(UnreadableError) as error:
        load_grey(tmp_path, "a.png")
    assert str(error.value) == (
        f"a.png is {side:,} x {side:,} pixels ({side**2:,}); from 1 to {MAX_PIXELS:,} can be read"
    )


def test_blocks_come_in_row_order_and_tell_their_problems(tmp_path: Path) -> None:
    rows = []
    for number in range(150):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(ImageFile(f"{number}.png", rle=("0 8",) if number % 50 == 1 else ()))
    (tmp_path / "70.png").write_bytes(b"")
    blocks = list(FilePixels(tmp_path, rows).blocks(8))
    pixels = np.concatenate([block.pixels for block in blocks])
    has_mask = np.concatenate([block.has_mask for block in blocks])
    assert pixels[:, 0, 0].tolist() == [number if number != 70 else 0 for number in range(150)]
    assert np.flatnonzero(has_mask).tolist() == [1, 51, 101]
    assert sum(len(block.masks) for block in blocks) == 3
    assert [dict(block.problems) for block in blocks if block.problems] == [
        {70 - 64: "70.png is not a readable image (no image format is recognised in its 0 bytes)"}
    ]


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_may_be_drawn_with_ones_or_with_255(tmp_path: Path, value: int) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[2, 3] = value
    Image.fromarray(mask).save(tmp_path / "m.png")
    (block,) = FilePixels(tmp_path, [ImageFile("a.png", mask="m.png")]).blocks(8)
    assert (block.masks[0] == (mask > 0) * 255).all()


def test_a_mask_with_several_labels_is_a_problem(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[2, 3], mask[5, 5] = 1, 2
    Image.fromarray(mask).save(tmp_path / "m.png")
    (block,) = FilePixels(tmp_path, [ImageFile("a.png", mask="m.png")]).blocks(8)
    assert block.problems == {0: "m.png has several labels, 1, 2; a mask has one, of lesion"}


def test_a_tiff_of_16_bits_whose_zero_is_white_is_turned(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040)
    picture.save(tmp_path / "a.tif", tiffinfo={PHOTOMETRIC_INTERPRETATION: 0})
    turned = load_grey(tmp_path, "a.tif")
    assert (turned[0, 0], turned[7, 7]) == (255, 0)
    picture.save(tmp_path / "b.tif", tiffinfo={PHOTOMETRIC_INTERPRETATION: 1})
    assert (load_grey(tmp_path, "b.tif") == 255 - turned).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("white_zero", [False, True])
def test_each_value_of_16_bits_is_its_share_of_the_detector_s_range(
    tmp_path: Path, bits: int, white_zero: bool
) -> None:
    values = np.arange(2**bits, dtype=np.uint16).reshape(-1, 16)
    tags = {PHOTOMETRIC_INTERPRETATION: int(not white_zero)}
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=tags)
    shares = values.astype(np.int64) / (2**bits - 1)
    expected = np.rint(np.clip(1 - shares if white_zero else shares, 0, 1) * 255).astype(np.uint8)
    assert (load_grey(tmp_path, "a.tif") == expected).all()


def test_16_bits_are_read_without_copies_of_8_bytes_for_each_step(tmp_path: Path) -> None:
    side = 1024
    values = np.random.default_rng(0).integers(0, 4096, (side, side), np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    tracemalloc.start()
    load_grey(tmp_path, "a.tif")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most / side**2 < 16, "bytes a pixel"


def png_of_16_bits(colour_type: int, channels: int) -> bytes:
    """A film of 12 bits, which Pillow cannot write in colour."""
    values = np.full((8, 8, channels), 4095, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">2I5B", 8, 8, 16, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff_of_16_bits(layout: int) -> bytes:
    """The same in RGB; `layout` 1: pixel by pixel, 2: a plane for each colour."""
    pixels = np.full((8, 8, 3), 4095, "<u2").tobytes()
    bits_at = 8 + 2 + 12 * 11 + 4
    planes_at, sizes_at = bits_at + 6, bits_at + 6 + 12
    pixels_at = sizes_at + 12
    n_strips = 1 if layout == 1 else 3
    first, size = (pixels_at, len(pixels)) if layout == 1 else (planes_at, sizes_at)
    entries = [
        *((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, n_strips, first), (277, 3, 1, 3), (278, 4, 1, 8), (279, 4, n_strips, size)),
        *((284, 3, 1, layout), (339, 3, 1, 1)),
    ]
    written = b"".join(struct.pack("<2H2I", *entry) for entry in entries)
    directory = struct.pack("<H", len(entries)) + written + struct.pack("<I", 0)
    third = len(pixels) // 3
    planes = struct.pack("<3I", *(pixels_at + plane * third for plane in range(3)))
    sizes = struct.pack("<3I", *[third] * 3)
    return (
        b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<3H", 16, 16, 16) + planes + sizes + pixels
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png_of_16_bits(2, 3)),
        ("a.png", png_of_16_bits(4, 2)),
        ("a.png", png_of_16_bits(6, 4)),
        ("a.tif", tiff_of_16_bits(1)),
        ("a.tif", tiff_of_16_bits(2)),
    ],
    ids=["RGB", "grey with alpha", "RGBA", "TIFF", "TIFF in planes"],
)
def test_colour_of_16_bits_is_refused_since_its_low_byte_would_be_lost(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    (block,) = FilePixels(tmp_path, [ImageFile(name)]).blocks(8)
    can = "grey of 8 or 16 bits and colour of 8 bits can be read"
    assert block.problems == {0: f"{name} has 16 bits in each of its channels; {can}"}


def test_a_mask_of_another_size_than_its_image_is_a_problem(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.fromarray(RAMP[:4]).save(tmp_path / "m.png")
    (block,) = FilePixels(tmp_path, [ImageFile("a.png", mask="m.png")]).blocks(8)
    assert block.problems == {0: "m.png is 8x4, its image 8x8"}


def test_a_code_drawn_at_another_size_fits_its_image(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    half = "128 128"  # the right half of 16 x 16, down its columns
    (block,) = FilePixels(tmp_path, [ImageFile("a.png", rle=(half,), rle_side_px=16)]).blocks(8)
    assert block.masks[0].tolist() == [[0] * 4 + [255] * 4] * 8


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24))
def test_any_size_becomes_the_square_asked_for(height: int, width: int, side: int) -> None:
    grey = np.full((height, width), 77, np.uint8)
    assert (resized(grey, side) == np.full((side, side), 77)).all()
