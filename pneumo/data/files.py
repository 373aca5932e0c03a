"""The files below a folder, at any depth: those of one kind, or all radiographs that a user names."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo.errors import InputError, one_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp", ".gif")
SUFFIXES = frozenset((*IMAGE_SUFFIXES, ".dcm", ".dicom", ""))
KINDS_SHOWN = 10


@dataclass(frozen=True)
class FoundFiles:
    """Files by their paths below the root, and what was not looked into, each with its reason."""

    files: tuple[str, ...]
    closed: tuple[str, ...]


def find_files(root: Path, folder: str, suffix: str) -> FoundFiles:
    """Those that end in suffix (lower case), sorted; hidden ones, such as macOS leaves, are none."""
    files, closed = [], []

    def refused(error: OSError) -> None:
        closed.append(f"{Path(error.filename).relative_to(root)}: {error.strerror}")

    for here, folders, names in os.walk(root / folder, onerror=refused):
        place = Path(here).relative_to(root)
        linked = [name for name in folders if Path(here, name).is_symlink()]
        closed += [f"{place / name}: a link to a folder, which is not followed" for name in linked]
        files += [
            str(place / name) for name in names if name.lower().endswith(suffix) and not name.startswith(".")
        ]
    return FoundFiles(tuple(sorted(files)), tuple(sorted(closed)))


def image_files(named: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Files to read, and how many of what else is in the folders.

    A file is read as it is named; of a folder, at any depth and in sorted order, what ends as a picture or
    DICOM file does or has no ending. A file that is named twice, or lies in a named folder too, is read once.
    Hidden files and folders do not count. InputError: one is not there, or there is nothing to read in all of
    them.
    """
    need_there(named)
    left_out: Counter[str] = Counter()
    found = [path for name in named for path in (_inside(name, left_out) if Path(name).is_dir() else [name])]
    if not found:
        rest = f" (left out: {counted(left_out)})" if left_out else ""
        raise InputError(f"{one_line(', '.join(named))}: no PNG, JPEG or DICOM file is in it{rest}")
    once: dict[Path, str] = {}
    for path in found:
        once.setdefault(Path(path).absolute(), path)
    return list(once.values()), left_out


def need_there(named: Sequence[str]) -> None:
    """InputError: one of these is neither a file nor a folder."""
    for name in named:
        if not (Path(name).is_file() or Path(name).is_dir()):
            there = "is neither a file nor a folder" if Path(name).exists() else "is not there"
            raise InputError(f"{one_line(name)} {there}")


def has_image(folder: Path) -> bool:
    """Whether `image_files` finds any in a folder."""
    return next(_inside(str(folder), Counter()), None) is not None


def counted(left_out: Counter[str]) -> str:
    """The most frequent first: 3 .txt, 1 linked folder"""
    kinds = [f"{count:,} {one_line(kind)}" for kind, count in left_out.most_common(KINDS_SHOWN)]
    more = left_out.total() - sum(count for _, count in left_out.most_common(KINDS_SHOWN))
    return ", ".join([*kinds, *([f"{more:,} others"] if more else [])])


def _inside(folder: str, left_out: Counter[str]) -> Iterator[str]:
    def refused(error: OSError) -> None:
        left_out[f"unreadable folder ({one_line(str(error.filename))})"] += 1

    for here, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        left_out.update("linked folder" for name in folders if Path(here, name).is_symlink())
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(here, name)
            if not path.is_file():
                left_out["broken link" if path.is_symlink() else "pipe or device"] += 1
            elif _may_be_radiograph(path):
                yield str(path)
            else:
                left_out[path.suffix.lower()] += 1


def _may_be_radiograph(path: Path) -> bool:
    """A DICOM file's name is often an identifier, with dots in it and no ending."""
    ending = path.suffix.lower()
    return ending in SUFFIXES or ending[1:].isdecimal()
