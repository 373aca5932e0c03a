"""Files and folders that are named -> the files to read."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pneumo.errors import InputError, one_line

PICTURES = (".png", ".jpg", ".jpeg", ".jp2", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp")
ENDINGS = frozenset((*PICTURES, ".dcm", ".dicom", ""))


def films(named: Sequence[str]) -> list[str]:
    """A file as it is named; of a folder, at any depth and in sorted order, what ends as a picture or DICOM
    file does or has no ending, hidden files and linked folders left out. InputError: one is not there, or
    there is nothing in all of them."""
    for name in named:
        if not (Path(name).is_file() or Path(name).is_dir()):
            there = "is neither a file nor a folder" if Path(name).exists() else "is not there"
            raise InputError(f"{one_line(name)} {there}")
    found = [path for name in named for path in (_inside(name) if Path(name).is_dir() else [name])]
    if not found:
        raise InputError(f"{one_line(', '.join(named))}: no PNG, JPEG or DICOM file is in it")
    return found


def _inside(folder: str) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if not name.startswith(".") and _is_film(path) and path.is_file():
                yield str(path)


def _is_film(path: Path) -> bool:
    """A DICOM file's name is often an identifier, with dots in it and no ending."""
    ending = path.suffix.lower()
    return ending in ENDINGS or ending[1:].isdecimal()
