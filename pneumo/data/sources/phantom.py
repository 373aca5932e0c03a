"""Radiographs that are drawn, not read: the data set of a fresh checkout."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo.data.cohort import CORE, Cohort, Digests, PixelBlock
from pneumo.data.contents import hash_of
from pneumo.data.sources.base import Source, need_whole
from pneumo.errors import InputError


@dataclass(kw_only=True)
class Phantom(Source):
    """Drawn radiographs with SIIM's statistics: no download, the same for the same seed."""

    n_images: int = 2800
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 64 <= self.image_side_px <= 1024:
            raise InputError(
                f"data.image_side_px is {self.image_side_px}; the phantom is drawn from 64 to 1024"
            )
        need_whole("n_images", self.n_images, 20)
        need_whole("seed", self.seed, 0)

    def __call__(self) -> Cohort:
        from pneumo.data import phantom

        studies = phantom.studies(self.n_images, self.seed)
        rows = pd.Series(np.arange(1, len(studies) + 1), index=studies.index)
        by_column = self._split_cells(studies, Path("phantom"))
        table = studies.assign(where="phantom row " + rows.map("{:,}".format))[[*CORE, *by_column]]
        drawn = PhantomPixels(studies, self.seed)
        naming = f"phantom {phantom.VERSION} {self.seed} {self.n_images}"  # one id, other pictures
        cohort = Cohort("phantom", table.reset_index(drop=True), drawn, namespace=naming)
        return self._finished(cohort)


@dataclass(frozen=True)
class PhantomPixels:
    """Pixels that are drawn, not read."""

    studies: pd.DataFrame
    seed: int

    def digests(self, store_dir: Path | None = None) -> Digests:
        """(N, 2), of the drawing's version, its seed and every figure of a row."""
        from pneumo.data import phantom

        drawn = f"phantom {phantom.VERSION} {self.seed}"
        pictures = [hash_of(f"{drawn} {row}".encode()) for row in self.studies.itertuples(False, None)]
        return np.column_stack([pictures, np.where(self.studies["area"] > 0, pictures, 0)])

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        """All rows, in row order."""
        from pneumo.data import phantom

        for pixels, masks in phantom.draw(self.studies, side_px, self.seed):
            has_mask = np.asarray(masks.any(axis=(1, 2)))
            yield PixelBlock(pixels, masks[has_mask], has_mask, {})

    def files(self) -> Sequence[str]:
        """None."""
        return ()

    def at(self, rows: Sequence[int]) -> "PhantomPixels":
        """These rows alone."""
        return replace(self, studies=self.studies.iloc[list(rows)])
