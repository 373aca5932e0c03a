"""The phantom: synthetic radiographs, which need no download."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo.data.cohort import CORE, Cohort, Digests, PixelBlock
from pneumo.data.contents import hash_of
from pneumo.data.sources.base import Source


@dataclass(kw_only=True)
class Phantom(Source):
    """Synthetic radiographs with the statistics of SIIM-ACR, the same for the same seed. `style` is the name
    of a style of pneumo/data/phantom/style.py, or a list of them, which patients have at equal shares."""

    image_side_px: int = field(metadata={"at_least": 64, "at_most": 1024})
    n_images: int = field(default=2800, metadata={"at_least": 20, "at_most": 10_000_000})
    seed: int = field(default=0, metadata={"at_least": 0})
    style: str | list[str] = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.style != "default":
            from pneumo.data.phantom.style import styles_of  # imports torch

            styles_of(self.style)

    def __call__(self) -> Cohort:
        from pneumo.data import phantom

        styles = phantom.styles_of(self.style)
        studies = phantom.studies(self.n_images, self.seed, styles)
        rows = pd.Series(np.arange(1, len(studies) + 1), index=studies.index)
        by_column = self._split_cells(studies, Path("phantom"))
        shown = [*CORE, *(["style"] if len(styles) > 1 else []), *by_column]
        table = studies.assign(where="phantom row " + rows.map("{:,}".format))[shown]
        pixels = PhantomPixels(studies, self.seed)
        # ids recur with other images
        changes = " + ".join(phantom.STYLES[name].changes() for name in styles)
        patients = f"phantom {phantom.VERSION} {self.seed} {self.n_images}"  # whose anatomy has no style
        cohort = Cohort(
            "phantom",
            table.reset_index(drop=True),
            pixels,
            namespace=f"{patients} {changes}".rstrip(),
            patient_namespace=patients,
        )
        return self._with_patients_csv(cohort)


@dataclass(frozen=True)
class PhantomPixels:
    """The images of the phantom's studies, drawn when they are needed."""

    studies: pd.DataFrame
    seed: int

    def digests(self, store_dir: Path | None = None) -> Digests:
        """Returns hashes (N, 2) of the phantom's version, the seed, all values of a row and what its style
        changes."""
        from pneumo.data import phantom

        version = f"phantom {phantom.VERSION} {self.seed}"
        rows = self.studies.drop(columns="style").itertuples(False, None)
        changes = [phantom.STYLES[name].changes() for name in self.studies["style"]]
        images = [
            hash_of(f"{version} {row} {change}".rstrip().encode())
            for row, change in zip(rows, changes, strict=True)
        ]
        return np.column_stack([images, np.where(self.studies["area"] > 0, images, 0)])

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        """Yields all rows, in order."""
        from pneumo.data import phantom

        for pixels, masks in phantom.draw(self.studies, side_px, self.seed):
            has_mask = np.asarray(masks.any(axis=(1, 2)))
            yield PixelBlock(pixels, masks[has_mask], has_mask, {})

    def files(self) -> Sequence[str]:
        """Returns no files."""
        return ()

    def at(self, rows: Sequence[int]) -> "PhantomPixels":
        """Returns the images of these rows."""
        return replace(self, studies=self.studies.iloc[list(rows)])
