"""The pixel store: a cohort's images and masks, decoded and resized once, as memory-mapped uint8 on disk.

    <store_dir>/<name>-<side>-<key>/  pixels.npy  masks.npy  mask_of.npy  digests.npy  meta.json

The key is a hash of the content of every image and lesion, in row order, and of the side; no path, name or
time of change is in it. So a data set that was moved is not decoded again, and other content has another key.

The folder is built beside its place under a lock and moved there when it is whole and on the disk: a build
that was killed leaves only a `.partial` folder, which the next one removes.
"""

# N images of the store, M of them with a mask; pixels and masks uint8

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from pneumo.data.atomic import flush_to_disk
from pneumo.data.cohort import Cohort, Digests
from pneumo.data.decode.grayscale import Pixel
from pneumo.data.validate import refusal
from pneumo.errors import InputError

FORMAT = 2  # another whenever the same bytes come to be read as other pixels
FILES = ("digests.npy", "mask_of.npy", "masks.npy", "pixels.npy")
ROOM_TO_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Store:
    """The pixels of a cohort, row by row, read from disk as they are touched."""

    pixels: Pixel  # (N, side, side), memory-mapped
    mask_of: npt.NDArray[np.int64]  # (N,): the row of lesions that belongs to each image, -1 for none
    lesions: Pixel  # (M, side, side), memory-mapped; 255 where a pixel is wholly lesion
    digests: Digests  # (N, 2): hashes of what each image and its lesion were made from, 0 for no lesion
    key: str  # equal keys mean equal pixels
    folder: Path
    build_seconds: float | None  # None: it was there already
    largest_px: int | None = None  # the longest side of the files; None: not from files, or not known

    @property
    def has_mask(self) -> npt.NDArray[np.bool_]:
        """(N,): whether a lesion is annotated. A positive without one has a lesion that nobody annotated."""
        return self.mask_of >= 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings to print."""
        side_px = self.pixels.shape[1]
        times = (side_px / self.largest_px) ** 2 if self.largest_px else 1
        if times < 2:
            return ()
        return (
            f"the longest side of a file is {self.largest_px} px, and all are enlarged to {side_px}: with "
            f"data.image_side_px={self.largest_px} nothing is lost, and a training takes about 1/{times:.0f} "
            "of the time",
        )

    def masks(self, rows: npt.NDArray[np.int64]) -> Pixel:
        """(len(rows), side, side): the lesion masks of these rows, zeros where there is none."""
        masks = np.zeros((len(rows), *self.pixels.shape[1:]), np.uint8)
        mask_of = self.mask_of[rows]
        masks[mask_of >= 0] = self.lesions[mask_of[mask_of >= 0]]
        return masks


def open_store(
    cohort: Cohort,
    side_px: int,
    folder: Path,
    on_error: str,
    on_progress: Callable[[int, int], None],
) -> tuple[Cohort, Store]:
    """The cohort's store, built if it is not there, and the cohort without rows that cannot be decoded.

    With on_error="raise" such rows are an InputError that lists them, also when the store was built under
    "skip". on_progress(done, total) is called as blocks of images are finished.
    """
    digests = cohort.pixels.digests(folder)
    key = store_key(digests, side_px)
    place = _place(cohort, side_px, folder, key)
    seconds = None
    problems = _problems(place, key, cohort)
    if problems is None:
        _need_room(cohort, int((digests[:, 1] != 0).sum()), side_px, folder)
        with FileLock(place.with_name(place.name + ".lock")):
            problems = _problems(place, key, cohort)
            if problems is None:  # else another process has built it meanwhile
                started = time.perf_counter()
                problems = _build(cohort, side_px, digests, place, on_error, on_progress)
                seconds = time.perf_counter() - started
    if problems and (on_error == "raise" or len(problems) == len(cohort)):
        raise refusal(cohort.root, cohort.table["where"], problems)
    store = Store(
        pixels=np.load(place / "pixels.npy", mmap_mode="r"),
        mask_of=np.load(place / "mask_of.npy"),
        lesions=np.load(place / "masks.npy", mmap_mode="r"),
        digests=np.load(place / "digests.npy"),
        key=key,
        folder=place,
        build_seconds=seconds,
        largest_px=json.loads((place / "meta.json").read_text()).get("largest_px") or None,
    )
    cohort = cohort.without(problems) if problems else cohort
    assert len(cohort) == len(store.pixels)
    return cohort, store


def is_stored(cohort: Cohort, side_px: int, folder: Path) -> bool:
    """Whether the cohort's store is there already."""
    digests = cohort.pixels.digests(folder)
    key = store_key(digests, side_px)
    return _problems(_place(cohort, side_px, folder, key), key, cohort) is not None


def _place(cohort: Cohort, side_px: int, folder: Path, key: str) -> Path:
    return folder / f"{cohort.name}-{side_px}-{key[:12]}"


def store_key(digests: Digests, side_px: int) -> str:
    """What the store's content depends on, as 64 hex digits."""
    rows = digests.astype("<i8").tobytes()
    return hashlib.sha256(f"{FORMAT} {side_px} ".encode() + rows).hexdigest()


def _problems(place: Path, key: str, cohort: Cohort) -> dict[int, str] | None:
    """The rows of the cohort that a store left out; None if there is no whole store of this key.

    They are tried again: what they are called may have changed since, or a decoder may have been added."""
    try:
        meta = json.loads((place / "meta.json").read_text())
        rows = list(map(int, meta["problems"].keys()))
        side_px = meta["side_px"]
        sizes = {name: (place / name).stat().st_size for name in FILES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none there, or of another version
        return None
    if (meta.get("key"), meta.get("bytes")) != (key, sizes):
        return None
    blocks = cohort.pixels.at(rows).blocks(side_px) if rows else ()
    found = [block.problems.get(position) for block in blocks for position in range(len(block.pixels))]
    problems = {row: problem for row, problem in zip(rows, found, strict=True) if problem is not None}
    return problems if len(problems) == len(rows) else None


def _build(
    cohort: Cohort,
    side_px: int,
    digests: Digests,
    place: Path,
    on_error: str,
    on_progress: Callable[[int, int], None],
) -> dict[int, str]:
    """Returns the rows that were left out. InputError: rows cannot be decoded and are not to be left out, or
    files were written to meanwhile."""
    partial = place.with_name(place.name + ".partial")
    for leftover in (partial, place):  # of a killed build; a store that is not whole
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir()
        problems, largest_px = _write(cohort, side_px, partial, on_progress)
        if problems and on_error == "raise":
            raise refusal(cohort.root, cohort.table["where"], problems)
        _need_unchanged(cohort, digests, place.parent)
        np.save(partial / "digests.npy", np.delete(digests, list(problems), axis=0))
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        meta = {
            "key": store_key(digests, side_px),
            "side_px": side_px,
            "bytes": sizes,
            "problems": problems,
            "largest_px": largest_px,
        }
        (partial / "meta.json").write_text(json.dumps(meta, indent=1))
        for file in partial.iterdir():
            flush_to_disk(file)
        flush_to_disk(partial)
        partial.rename(place)
        flush_to_disk(place.parent)
    except OSError as error:
        raise InputError(f"data.store_dir: {partial} cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return problems


def _need_unchanged(cohort: Cohort, digests: Digests, folder: Path) -> None:
    """Refuse what was decoded from files that are not those whose content the store is named by."""
    changed = np.flatnonzero((cohort.pixels.digests(folder) != digests).any(axis=1))
    if len(changed):
        where = cohort.table["where"].iloc[changed[0]]
        raise InputError(
            f"{cohort.root}: {len(changed):,} of {len(cohort):,} images changed while they were read, e.g. "
            f"{where}: start again when nothing writes to them"
        )


def _write(
    cohort: Cohort, side_px: int, folder: Path, on_progress: Callable[[int, int], None]
) -> tuple[dict[int, str], int]:
    """Stream the blocks to files; returns the rows that cannot be decoded, which are left out of them, and
    the longest side of the files that were read."""
    problems: dict[int, str] = {}
    mask_of = []
    first = n_lesions = largest_px = 0
    with _Rows(folder / "pixels.npy", side_px) as pixels, _Rows(folder / "masks.npy", side_px) as masks:
        for block in cohort.pixels.blocks(side_px):
            good = np.ones(len(block.pixels), bool)
            good[list(block.problems)] = False
            problems |= {first + position: problem for position, problem in block.problems.items()}
            pixels.append(block.pixels[good] if block.problems else block.pixels)
            masks.append(block.masks)
            numbered = np.where(block.has_mask, n_lesions + np.cumsum(block.has_mask) - 1, -1)
            mask_of.append(numbered[good])
            first += len(block.pixels)
            n_lesions += len(block.masks)
            largest_px = max(largest_px, block.largest_px)
            on_progress(first, len(cohort))
    assert first == len(cohort), f"{first} of {len(cohort)} rows were decoded"
    np.save(folder / "mask_of.npy", np.concatenate(mask_of).astype(np.int64))
    return problems, largest_px


class _Rows:
    """A .npy file of uint8 images that grows; its header, of fixed length, is written again at the end."""

    def __init__(self, path: Path, side_px: int) -> None:
        self.path, self.side_px, self.rows = path, side_px, 0

    def __enter__(self) -> "_Rows":
        self.file: IO[bytes] = self.path.open("wb")
        self._header()
        return self

    def append(self, images: Pixel) -> None:
        self.file.write(np.ascontiguousarray(images).data)
        self.rows += len(images)

    def __exit__(self, *_: object) -> None:
        self.file.seek(0)
        self._header()
        self.file.close()

    def _header(self) -> None:
        shape = (self.rows, self.side_px, self.side_px)
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, described)


def _need_room(cohort: Cohort, n_lesions: int, side_px: int, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"data.store_dir: {folder} cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"data.store_dir: {folder} cannot be written to")
    needed = (len(cohort) + n_lesions) * side_px**2 + ROOM_TO_SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder.resolve()} has {free / 2**30:.1f} GiB free, the pixel store of {len(cohort):,} images "
            f"at {side_px} px takes {needed / 2**30:.1f}: set data.store_dir, or a smaller data.image_side_px"
        )
