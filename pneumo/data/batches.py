"""Batches of images on the device: gathered there if all pixels fit its memory, else read from the
memory-mapped store, by worker processes where it does not fit the memory."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pneumo.data.decode.grayscale import Pixel
from pneumo.data.store import Store


@dataclass(frozen=True)
class Batch:
    """`rows` (B,) in the cohort, `images` (B, 1, H, W) uint8 and `labels` (B,) float on the device."""

    rows: np.ndarray
    images: Tensor
    labels: Tensor

    def part(self, at: slice) -> "Batch":
        """The batch of some of its images."""
        return Batch(self.rows[at], self.images[at], self.labels[at])


class Batches:
    """Gives any rows of a store as batches on a device."""

    def __init__(self, store: Store, labels: np.ndarray, device: torch.device, num_workers: int):
        self.store, self.device = store, device
        self._labels = torch.tensor(labels, dtype=torch.float32)
        whole = fits(store.pixels.nbytes, device)
        self._workers = 0 if whole else num_workers
        self._resident: Tensor | None = None
        if whole and device.type != "cpu":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is copied
                self._resident = torch.from_numpy(np.ascontiguousarray(store.pixels)).to(device)

    def of(self, rows: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """In the order of `rows`; the last batch may be short."""
        yield from self.each(in_batches(rows, batch_size))

    def each(self, row_sets: Sequence[np.ndarray]) -> Iterator[Batch]:
        """A batch for every one of these arrays of rows."""
        for rows, images in zip(row_sets, self._images(row_sets), strict=True):
            labels = to_device(self._labels[rows], self.device)
            yield Batch(rows, images[:, None], labels)

    def labels(self, rows: np.ndarray) -> Tensor:
        """(B,) float, on the CPU."""
        return self._labels[rows]

    def masks(self, rows: np.ndarray) -> Tensor:
        """(B, 1, H, W) uint8 masks of these rows, on the device."""
        return to_device(self.store.masks(rows), self.device)[:, None]

    def _images(self, row_sets: Sequence[np.ndarray]) -> Iterator[Tensor]:
        if self._resident is not None:
            for rows in row_sets:
                yield self._resident[to_device(rows, self.device)]
        elif self._workers:
            loader = DataLoader(
                _RowSets(self.store.pixels, row_sets),
                batch_size=None,
                num_workers=self._workers,
                pin_memory=self.device.type == "cuda",
                generator=torch.Generator(),  # else it draws from the one that dropout uses
            )
            for images in loader:
                yield images.to(self.device, non_blocking=True)
        else:
            for rows in row_sets:
                yield to_device(self.store.pixels[rows], self.device)


def in_batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """These rows in arrays of `size`, the last of which may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class _RowSets(Dataset[Tensor]):
    """One item a batch, so that a worker reads a whole batch. A worker that is not forked gets the place of
    memory-mapped pixels, not the pixels."""

    def __init__(self, pixels: Pixel, row_sets: Sequence[np.ndarray]):
        self._pixels, self._row_sets = pixels, row_sets

    def __getstate__(self) -> dict[str, Any]:
        file = getattr(self._pixels, "filename", None)
        return {"_row_sets": self._row_sets, "_pixels": self._pixels if file is None else Path(file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pixels = state["_pixels"]
        self._row_sets = state["_row_sets"]
        self._pixels = np.load(pixels, mmap_mode="r") if isinstance(pixels, Path) else pixels

    def __len__(self) -> int:
        return len(self._row_sets)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._pixels[self._row_sets[index]])


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """These values on the device. The program goes on while a GPU still computes: that needs pinned memory,
    since any other waits for all that the GPU has to do."""
    tensor = torch.as_tensor(values)
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether pixels of this size leave half of what is free to the model."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return n_bytes <= free / 2
