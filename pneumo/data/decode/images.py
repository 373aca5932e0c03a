"""Reads image files (through Pillow) and run-length codes into arrays; `dicom` reads DICOM files.

Colour becomes luminance, palettes are looked up and alpha is ignored. 16-bit images are divided by the
smallest detector range (8, 10, 12, 14 or 16 bits) that holds their largest value: a 12-bit radiograph saved
with 16 bits is not black, and one that uses its whole range keeps its exposure, unlike with a stretch to its
own extremes. Of colour with 16 bits a channel Pillow keeps the high byte alone, so it is refused.

Images and masks are turned as their EXIF data says. Files of several frames or pages are refused. Images are
resized to a square without keeping their aspect: by area averaging, or by interpolation where they are
smaller.

H and W are the size of a file; b is the number of images of a block, and m that of its masks.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile as PillowFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from pneumo.data.cohort import Digests, PixelBlock
from pneumo.data.contents import contents, cores, hash_of
from pneumo.data.decode.grayscale import Pixel, UnreadableError, detector_top, eight_bits, need_size
from pneumo.data.decode.lesion_rle import NO_LESION, _size, decode_rle
from pneumo.errors import one_line

BLOCK_ROWS = 16  # two blocks are held at a time, at most 16 MB at 512 px
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "PPM", "WEBP", "GIF")
DICOM = (".dcm", ".dicom")
COLOUR_SIDE_PX = 64
MOST_LABELS = 16  # of a label map, in which each value is another region
Image.MAX_IMAGE_PIXELS = None  # `need_size` sets the limit, for DICOM too


@dataclass(frozen=True)
class ImageFile:
    """The path of an image relative to the root, and its lesion: the path of a mask, or run-length codes."""

    image: str
    mask: str | None = None
    rle: tuple[str, ...] = ()
    rle_side_px: int | None = None  # side of the image that the code refers to; None: the image's own


@dataclass(frozen=True)
class Decoded:
    """An image of a file, resized."""

    pixels: Pixel  # (side, side)
    mask: Pixel | None  # (side, side) of its lesion, if any
    largest_px: int  # the longer side of the file


@dataclass(frozen=True)
class FilePixels:
    """The pixels of image files, decoded by threads on all cores.

    Pillow releases the interpreter while it inflates and resizes: on two cores, threads were 1.94 and
    processes 1.85 times as fast as one thread. Threads cannot outlive a killed run."""

    root: Path
    images: Sequence[ImageFile]

    def digests(self, store_dir: Path | None = None) -> Digests:
        """Returns hashes (N, 2) of the bytes of each image file, and of its mask file or run-length codes."""
        files = self.files()
        hashes = contents([self.root / file for file in files], store_dir).hashes
        by_file = dict(zip(files, hashes.tolist(), strict=True))

        def of_lesion(row: ImageFile) -> int:
            if row.mask:
                return int(by_file[row.mask])
            codes = [code for code in row.rle if code.strip() not in NO_LESION]
            return hash_of(repr((codes, row.rle_side_px)).encode()) if codes else 0

        return np.array([(by_file[row.image], of_lesion(row)) for row in self.images], np.int64).reshape(
            -1, 2
        )

    def files(self) -> list[str]:
        """Returns the paths of images and masks, each once, relative to the root."""
        paths = [path for row in self.images for path in (row.image, row.mask) if path is not None]
        return list(dict.fromkeys(paths))

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        """Yields all rows decoded and resized, in order; rows that cannot be read are in a block's
        problems."""
        pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        ahead: deque[list[Future[Decoded | str]]] = deque()
        try:
            for first in range(0, len(self.images), BLOCK_ROWS):
                rows = self.images[first : first + BLOCK_ROWS]
                ahead.append([pool.submit(self._decoded, row, side_px) for row in rows])
                if len(ahead) > 1:
                    yield _block(ahead.popleft(), side_px)
            while ahead:
                yield _block(ahead.popleft(), side_px)
        finally:
            pool.shutdown(cancel_futures=True)

    def at(self, rows: Sequence[int]) -> "FilePixels":
        """Returns the pixels of these rows."""
        return replace(self, images=[self.images[row] for row in rows])

    def _decoded(self, image: ImageFile, side_px: int) -> Decoded | str:
        """Returns the image and the mask of its lesion, if any, or what is wrong."""
        try:
            grey = load_grey(self.root, image.image)
            lesion = self._lesion(image, grey.shape)
        except UnreadableError as problem:
            return one_line(str(problem))
        mask = resized_mask(lesion, side_px) if lesion is not None and lesion.any() else None
        return Decoded(resized(grey, side_px), mask, max(grey.shape))

    def _lesion(self, image: ImageFile, size: tuple[int, ...]) -> Pixel | None:
        if image.mask is not None:
            mask = load_grey(self.root, image.mask)
            if mask.shape != size:
                raise UnreadableError(f"{image.mask} is {_size(mask.shape)}, its image {_size(size)}")
            highest = int(mask.max())
            if 1 < highest < MOST_LABELS and len(labels := np.unique(mask[mask > 0])) > 1:
                shown = ", ".join(map(str, labels))
                raise UnreadableError(f"{image.mask} has several labels, {shown}; a mask has one, of lesion")
            # half of its own maximum, since masks have values of 0 and 1 as well as 0 and 255
            return np.where(mask > highest / 2, 255, 0).astype(np.uint8)
        height, width = (image.rle_side_px,) * 2 if image.rle_side_px else size
        return decode_rle(image.rle, height, width) if image.rle else None


def load_grey(root: Path, path: str) -> Pixel:
    """Returns an image or DICOM file as grey (H, W) uint8. Raises UnreadableError, which names the file."""
    return _read(root, path, _grey)


def load_grey_and_colour(root: Path, path: str) -> tuple[Pixel, float]:
    """Returns the image as grey (H, W), and the mean difference between its brightest and darkest channel, 0
    to 255; it is 0 for DICOM, of which only grey images are read."""
    colours = [0.0]

    def both(image: Image.Image) -> Pixel:
        colours.append(_colour(image))
        return _grey(image)

    return _read(root, path, both), colours[-1]


def header_flag(root: Path, path: str) -> str:
    """Returns the text of a DICOM header that contradicts a frontal chest radiograph to look at; "" for other
    files."""
    if not _is_dicom(root / path):
        return ""
    from pneumo.data.decode import dicom

    return dicom.header(root, path).flag


def _read(root: Path, path: str, as_grey: Callable[[Image.Image], Pixel]) -> Pixel:
    try:
        if _is_dicom(root / path):
            from pneumo.data.decode import dicom  # takes half a second to import

            return dicom.load(root / path)
        with Image.open(root / path, formats=FORMATS) as image:
            need_size(image.height, image.width)
            image.verify()  # decoding alone checks no checksum
        # an open file, since Pillow 13 maps a plain TIFF given by its path, and then turns it wrongly
        with (root / path).open("rb") as file, Image.open(file, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a JPEG with other views, which viewers do not show
                kind = "pages" if image.format == "TIFF" else "frames"
                raise UnreadableError(f"has {frames:,} {kind}; one can be read: save it as its own file")
            if _has_deep_colour(image):
                raise UnreadableError(
                    "has 16 bits in each of its channels; grey of 8 or 16 bits and colour of 8 bits can be "
                    "read"
                )
            image.load()
            with suppress(Exception):  # on damaged EXIF data Pillow raises nearly anything
                ImageOps.exif_transpose(image, in_place=True)
            return as_grey(image)
    except UnreadableError as problem:
        raise UnreadableError(f"{path} {problem}") from None
    except Exception as error:  # on a broken file Pillow and pydicom raise nearly anything
        reason = str(error) or type(error).__name__
        if "truncated" in reason.lower():
            reason = f"truncated after {(root / path).stat().st_size:,} bytes"
        elif "cannot identify" in reason.lower():
            reason = f"no image format is recognised in its {(root / path).stat().st_size:,} bytes"
        raise UnreadableError(f"{path} is not a readable image ({reason})") from None


def resized(grey: Pixel, side_px: int) -> Pixel:
    """Returns an (H, W) image as (side, side), where each pixel is the mean of the area it covers."""
    if grey.shape == (side_px, side_px):
        return grey
    shrinks = min(grey.shape) >= side_px
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(grey).resize((side_px, side_px), how))


def as_png(pixels: Pixel) -> bytes:
    """Returns the bytes of a PNG file of a grey (H, W) or colour (H, W, 3) uint8 image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def resized_mask(mask: Pixel, side_px: int) -> Pixel:
    """Returns an (H, W) mask of 0 and 255, not all zero, as (side, side) shares of lesion from 0 to 255. The
    result is never all zero."""
    small = resized(mask, side_px)
    if small.any():
        return small
    rows, columns = np.nonzero(mask)
    small = small.copy()
    small[int(rows.mean() * side_px / mask.shape[0]), int(columns.mean() * side_px / mask.shape[1])] = 1
    return small


def _grey(image: Image.Image) -> Pixel:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        top = detector_top(np.array([values.min(), values.max()], np.int64))
        shares = np.arange(top + 1) / top  # of each value, looked up for the pixels
        shown: Pixel = eight_bits(1 - shares if _is_white_zero(image) else shares)[values]
        return shown
    if image.mode == "F":
        raise UnreadableError("holds fractional numbers; images of 8 or 16 bits can be read")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return np.asarray(image.convert("L"))


def _has_deep_colour(image: PillowFile) -> bool:
    """Whether the channels of an image that is not plain grey have 16 bits."""
    if image.mode.startswith(("I", "F")):
        return False
    bits = image.tag_v2.get(BITSPERSAMPLE, (1,)) if isinstance(image, TiffImageFile) else (1,)
    return max(bits) > 8 or any(";16" in str(tile.args) for tile in image.tile)


def _is_white_zero(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF file (MinIsWhite), which Pillow turns for images of 8 bits alone."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0


def _colour(image: Image.Image) -> float:
    if image.mode.startswith(("1", "L", "I", "F")):
        return 0.0
    small = image.convert("RGB").resize((COLOUR_SIDE_PX, COLOUR_SIDE_PX), Image.Resampling.BOX)
    return float(np.ptp(np.asarray(small), axis=2).mean())


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in DICOM


def _block(rows: list[Future[Decoded | str]], side_px: int) -> PixelBlock:
    pixels = np.zeros((len(rows), side_px, side_px), np.uint8)
    has_mask = np.zeros(len(rows), bool)
    masks, problems, largest_px = [], {}, 0
    for position, row in enumerate(rows):
        decoded = row.result()
        if isinstance(decoded, str):
            problems[position] = decoded
            continue
        pixels[position] = decoded.pixels
        largest_px = max(largest_px, decoded.largest_px)
        if decoded.mask is not None:
            has_mask[position] = True
            masks.append(decoded.mask)
    stacked = np.stack(masks) if masks else np.zeros((0, side_px, side_px), np.uint8)
    return PixelBlock(pixels, stacked, has_mask, problems, largest_px)
