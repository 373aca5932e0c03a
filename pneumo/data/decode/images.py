"""Picture files and run-length codes -> arrays: the only room that knows Pillow. DICOM has its own.

Grey: colour becomes luminance, palettes are looked up, alpha is ignored. 16-bit pictures are divided by
the smallest detector range (8, 10, 12, 14 or 16 bits) that holds their largest value: a 12-bit radiograph
saved as 16 bits is not black, and one that uses its whole range keeps its exposure (a stretch to each
picture's own minimum and maximum would not).

Upright: pictures and masks are turned as their EXIF says, as viewers do it. Of a file of several frames or
pages nobody can say which is meant: it is refused.

Size: every picture is squashed to a square by area averaging, as a plain resize to side x side does;
only a picture smaller than the square is interpolated.
"""

# H, W of a file; b images of a block, m masks of a block

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pneumo.data.cohort import Digests, PixelBlock
from pneumo.data.contents import contents, cores, hash_of
from pneumo.data.decode.grayscale import Pixel, UnreadableError, detector_top, eight_bits, need_size
from pneumo.data.decode.lesion_rle import NO_LESION, _size, decode_rle
from pneumo.errors import one_line

BLOCK_ROWS = 16  # two blocks in flight: at 512 px at most 16 MB, and what is written is still in the cache
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "PPM", "WEBP", "GIF")
DICOM = (".dcm", ".dicom")
COLOUR_SIDE_PX = 64
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit, and its warnings; ours is `need_size`, for DICOM too


@dataclass(frozen=True)
class ImageFile:
    """One image on disk, its paths relative to the root, and where its lesion is described, if anywhere."""

    image: str
    mask: str | None = None
    rle: tuple[str, ...] = ()
    rle_side_px: int | None = None  # the size the code was drawn at; None: the image's own


@dataclass(frozen=True)
class FilePixels:
    """Pixels that lie in files.

    Threads decode them on all cores: Pillow lets go of the interpreter while it inflates and resizes
    (1.94 times one thread's speed on two cores, processes 1.85), and threads cannot outlive a killed run.
    """

    root: Path
    pictures: Sequence[ImageFile]

    def digests(self, store_dir: Path | None = None) -> Digests:
        """(N, 2), of the bytes of each image file, and of its mask file's or of its run-length codes."""
        files = self.files()
        hashes = contents([self.root / file for file in files], store_dir).hashes
        of = dict(zip(files, hashes.tolist(), strict=True))
        rows = [(of[row.image], of[row.mask] if row.mask else _hash_of_codes(row)) for row in self.pictures]
        return np.array(rows, np.int64).reshape(-1, 2)

    def files(self) -> list[str]:
        """Images and masks, each once, relative to the root."""
        named = [path for row in self.pictures for path in (row.image, row.mask) if path is not None]
        return list(dict.fromkeys(named))

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        """Decoded and resized, in row order; a row that cannot be read is told in its block's problems."""
        pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        ahead: deque[list[Future[tuple[Pixel, Pixel | None] | str]]] = deque()
        try:
            for first in range(0, len(self.pictures), BLOCK_ROWS):
                rows = self.pictures[first : first + BLOCK_ROWS]
                ahead.append([pool.submit(self._decoded, row, side_px) for row in rows])
                if len(ahead) > 1:
                    yield _block(ahead.popleft(), side_px)
            while ahead:
                yield _block(ahead.popleft(), side_px)
        finally:
            pool.shutdown(cancel_futures=True)

    def at(self, rows: Sequence[int]) -> "FilePixels":
        """These rows alone."""
        return replace(self, pictures=[self.pictures[row] for row in rows])

    def _decoded(self, picture: ImageFile, side_px: int) -> tuple[Pixel, Pixel | None] | str:
        """The picture and, where there is a lesion, its mask, both (side, side); or what is wrong."""
        try:
            grey = load_grey(self.root, picture.image)
            lesion = self._lesion(picture, grey.shape)
        except UnreadableError as problem:
            return one_line(str(problem))
        mask = resized_mask(lesion, side_px) if lesion is not None and lesion.any() else None
        return resized(grey, side_px), mask

    def _lesion(self, picture: ImageFile, size: tuple[int, ...]) -> Pixel | None:
        if picture.mask is not None:
            mask = load_grey(self.root, picture.mask)
            if mask.shape != size:
                raise UnreadableError(f"{picture.mask} is {_size(mask.shape)}, its image {_size(size)}")
            # half of its own maximum: masks are drawn as 0/1 as well as 0/255
            return np.where(mask > mask.max() / 2, 255, 0).astype(np.uint8)
        if picture.rle:
            side = picture.rle_side_px
            height, width = (side, side) if side else size
            return decode_rle(picture.rle, height, width)
        return None


def load_grey(root: Path, path: str) -> Pixel:
    """One picture or DICOM file as grey, (H, W) uint8. Raises UnreadableError, which names the file."""
    return _read(root, path, _grey)


def load_grey_and_colour(root: Path, path: str) -> tuple[Pixel, float]:
    """And the mean difference between its brightest and darkest channel, 0 to 255; 0 of DICOM, where only
    grey is read."""
    colours = [0.0]

    def both(picture: Image.Image) -> Pixel:
        colours.append(_colour(picture))
        return _grey(picture)

    return _read(root, path, both), colours[-1]


def header_flag(root: Path, path: str) -> str:
    """What a DICOM header says that is no frontal chest film; "" = nothing, as of every picture."""
    if not _is_dicom(root / path):
        return ""
    from pneumo.data.decode import dicom

    return dicom.header(root, path).flag


def _read(root: Path, path: str, as_grey: Callable[[Image.Image], Pixel]) -> Pixel:
    try:
        if _is_dicom(root / path):
            from pneumo.data.decode import dicom  # costs half a second, which pictures need not pay

            return dicom.load(root / path)
        with Image.open(root / path, formats=FORMATS) as picture:
            need_size(picture.height, picture.width)
            picture.verify()  # decoding checks no checksum: a flipped bit would pass as a picture
        # from an open file: of a path, Pillow 13 maps a plain TIFF into memory and then turns it wrongly
        with (root / path).open("rb") as file, Image.open(file, formats=FORMATS) as picture:
            _need_one_frame(picture)
            picture.load()
            _turn_upright(picture)
            return as_grey(picture)
    except UnreadableError as problem:
        raise UnreadableError(f"{path} {problem}") from None
    except Exception as error:  # on a broken file Pillow and pydicom raise nearly anything
        raise UnreadableError(f"{path} is not a readable image ({_reason(root / path, error)})") from None


def resized(grey: Pixel, side_px: int) -> Pixel:
    """(H, W) -> (side, side), each pixel the mean of the area it covers."""
    if grey.shape == (side_px, side_px):
        return grey
    shrinks = min(grey.shape) >= side_px
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(grey).resize((side_px, side_px), how))


def as_png(pixels: Pixel) -> bytes:
    """(H, W) grey or (H, W, 3) colour, uint8 -> a file's bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def resized_mask(mask: Pixel, side_px: int) -> Pixel:
    """(H, W) of 0 and 255 -> (side, side), the share of each pixel that is lesion; never all zero."""
    small = resized(mask, side_px)
    if small.any():
        return small
    rows, columns = np.nonzero(mask)
    small = small.copy()
    small[int(rows.mean() * side_px / mask.shape[0]), int(columns.mean() * side_px / mask.shape[1])] = 1
    return small


def _need_one_frame(picture: Image.Image) -> None:
    """Raises UnreadableError. MPO is a JPEG with other views behind it, which viewers do not show."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        kind = "pages" if picture.format == "TIFF" else "frames"
        raise UnreadableError(f"has {frames:,} {kind}; one can be read: save the one that is meant by itself")


def _turn_upright(picture: Image.Image) -> None:
    with suppress(Exception):  # a damaged EXIF block says nothing; Pillow raises nearly anything on it
        ImageOps.exif_transpose(picture, in_place=True)


def _grey(picture: Image.Image) -> Pixel:
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        return eight_bits(values / detector_top(values))
    if picture.mode == "F":
        raise UnreadableError("holds fractional numbers; 8- or 16-bit pictures can be read")
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")
    return np.asarray(picture.convert("L"))


def _colour(picture: Image.Image) -> float:
    if picture.mode.startswith(("1", "L", "I", "F")):
        return 0.0
    small = picture.convert("RGB").resize((COLOUR_SIDE_PX, COLOUR_SIDE_PX), Image.Resampling.BOX)
    return float(np.ptp(np.asarray(small), axis=2).mean())


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in DICOM


def _block(rows: list[Future[tuple[Pixel, Pixel | None] | str]], side_px: int) -> PixelBlock:
    pixels = np.zeros((len(rows), side_px, side_px), np.uint8)
    has_mask = np.zeros(len(rows), bool)
    masks, problems = [], {}
    for position, row in enumerate(rows):
        decoded = row.result()
        if isinstance(decoded, str):
            problems[position] = decoded
            continue
        pixels[position], mask = decoded
        if mask is not None:
            has_mask[position] = True
            masks.append(mask)
    stacked = np.stack(masks) if masks else np.zeros((0, side_px, side_px), np.uint8)
    return PixelBlock(pixels, stacked, has_mask, problems)


def _reason(path: Path, error: Exception) -> str:
    said = str(error).lower()
    if "truncated" in said:
        return f"truncated after {path.stat().st_size:,} bytes"
    if "cannot identify" in said:
        return f"no picture format is recognised in its {path.stat().st_size:,} bytes"
    return str(error) or type(error).__name__


def _hash_of_codes(picture: ImageFile) -> int:
    """0 where they draw nothing."""
    drawn = [code for code in picture.rle if code.strip() not in NO_LESION]
    return hash_of(repr((drawn, picture.rle_side_px)).encode()) if drawn else 0
