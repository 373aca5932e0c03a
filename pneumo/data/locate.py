"""Finds the files that the cells of a table name, which are often not written as the files are."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

import pandas as pd

from pneumo.data.files import IMAGE_SUFFIXES
from pneumo.errors import InputError, one_line

ENDINGS = (".png", ".dcm", ".dicom", *(suffix for suffix in IMAGE_SUFFIXES if suffix != ".png"))
MOST_FILES = 500_000  # that are looked at for a proposal


def folders_of(root: Path, pattern: str, setting: str) -> list[str]:
    """Returns the folders below the root that a folder or a pattern of folders names. InputError: there is
    none, or it does not lie below the root."""
    if Path(pattern).is_absolute():
        if not Path(pattern).is_relative_to(root.absolute()):
            raise InputError(f'{setting} is "{pattern}", must be relative to data.root')
        pattern = str(Path(pattern).relative_to(root.absolute()))
    if not any(sign in pattern for sign in "*?["):
        full = root / pattern
        if full.is_dir():
            return [pattern]
        raise InputError(f'{setting}: no folder "{pattern}" in {root}{_folders_there(root)}')
    try:
        folders = sorted(str(folder.relative_to(root)) for folder in root.glob(pattern) if folder.is_dir())
    except (NotImplementedError, ValueError):
        raise InputError(f'{setting} is "{pattern}", must be relative to data.root') from None
    if not folders:
        raise InputError(f'{setting}: no folder "{pattern}" in {root}{_folders_there(root)}')
    return folders


@dataclass
class Located:
    """Where the files of some cells are: a path below the root for each cell; those that are not there have
    the path that was expected."""

    paths: pd.Series
    remark: str  # what is not as the table says, "" if nothing


def locate(root: Path, pattern: str, cells: pd.Series, what: str) -> Located:
    """Returns the paths of the files that cells name, below a folder of the root or a pattern of folders.

    A file is also found if its name differs from the cell in case, in the composition of umlauts, in having
    an ending that the cell lacks, or where the cell has backslashes. If no file is found so, folders that all
    cells begin with are left out, and then their endings. Missing and empty cells stay as they are.

    `what` is "image" or "mask". InputError: no file of any cell is found; the message proposes a folder."""
    folders = folders_of(root, pattern, f"data.{what}s")
    listing = _Listing(root)
    names = list(dict.fromkeys(str(cell) for cell in cells.dropna() if cell))
    found = {name: path for name in names if (path := listing.find(folders, name))}
    remark = ""
    if names and not found:
        found, remark = _without_leading_folders(listing, folders, names)
    if names and not found:
        found, remark = _with_another_ending(listing, folders, names)
    if names and not found and len(names) > 1:
        raise InputError(_nowhere(root, pattern, names, what))

    expected = folders[0] if len(folders) == 1 else pattern

    def path_of(cell: str) -> str:
        return found.get(cell, _join(expected, cell)) if cell else cell

    return Located(cells.map(path_of, na_action="ignore"), remark)


def _join(folder: str, name: str) -> str:
    """Returns a path below a folder of the root, which is the root itself for "."."""
    return os.path.join("" if folder == "." else folder, name)  # noqa: PTH118


@dataclass
class _Listing:
    """The files of folders below the root, listed as they are needed."""

    root: Path
    listed: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def find(self, folders: Sequence[str], name: str) -> str | None:
        """Returns the one file of a name in any of the folders. InputError: there are several."""
        found = [path for folder in folders if (path := self.find_in(folder, name))]
        if len(found) > 1:
            raise InputError(
                f"{self.root}: {one_line(name)} is in {len(found)} folders of the pattern, as "
                f"{one_line(found[0])} and {one_line(found[1])}"
            )
        return found[0] if found else None

    def find_in(self, folder: str, name: str) -> str | None:
        path = _join(folder, name)
        try:
            if os.path.lexists(self.root / path):
                return path
        except ValueError:  # a null byte
            return None
        slashes = _join(folder, name.replace("\\", "/"))
        where = PurePosixPath(slashes)
        if ".." in where.parts:
            return None
        there = self.files_in(str(where.parent))
        wanted = [alike(where.name), *(alike(where.name + ending) for ending in _endings_of(where))]
        for key in wanted:
            if len(matches := there.get(key, [])) == 1:
                return _join(str(where.parent), matches[0])
        return None

    def files_in(self, folder: str) -> dict[str, list[str]]:
        """Returns the files of a folder by what is alike of their names."""
        if folder not in self.listed:
            there: dict[str, list[str]] = {}
            try:
                names = sorted(path.name for path in (self.root / folder).iterdir())
            except (OSError, ValueError):
                names = []
            for name in names:
                there.setdefault(alike(name), []).append(name)
            self.listed[folder] = there
        return self.listed[folder]


def alike(name: str) -> str:
    """Returns what names that differ in case or in the composition of umlauts have in common."""
    return unicodedata.normalize("NFC", name).casefold()


def _endings_of(path: PurePosixPath) -> Sequence[str]:
    """Returns the endings that a name may lack: none if it has one."""
    return () if path.suffix.lower() in ENDINGS else ENDINGS


def _without_leading_folders(
    listing: _Listing, folders: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, str], str]:
    """Leaves out the folders that all names begin with, as few as are needed to find half of the files."""
    parts = [PurePosixPath(name.replace("\\", "/")).parts for name in names]
    levels = zip(*(one[:-1] for one in parts), strict=False)
    shared = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    for n_left_out in range(1, len(shared) + 1):
        shorter = {name: "/".join(one[n_left_out:]) for name, one in zip(names, parts, strict=True)}
        found = {name: path for name, cut in shorter.items() if (path := listing.find(folders, cut))}
        if 2 * len(found) >= len(names):
            left_out = str(PurePosixPath(*shared[:n_left_out]))
            return found, f"paths without their {one_line(left_out)}/"
    return {}, ""


def _with_another_ending(
    listing: _Listing, folders: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, str], str]:
    """Replaces the ending of all names by the one that half of the files have."""
    suffixes = {PurePosixPath(name).suffix for name in names}
    if len(suffixes) > 1 or (said := suffixes.pop()).lower() not in ENDINGS:
        return {}, ""
    for ending in ENDINGS:
        found = {
            name: path for name in names if (path := listing.find(folders, name.removesuffix(said) + ending))
        }
        if 2 * len(found) >= len(names):
            return found, f"files that end in {ending}, not in {said}"
    return {}, ""


def _nowhere(root: Path, pattern: str, names: Sequence[str], what: str) -> str:
    """Returns that no file is there, and the folder that they are in if one is found."""
    here = root if pattern == "." else root / pattern
    text = f"none of {len(names):,} {what}s is below {here}, e.g. {one_line(names[0])}"
    wanted = {stem_of(name) for name in names}
    counts: Counter[str] = Counter()
    n_files = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        n_files += len(files)
        if n_files > MOST_FILES:
            break
        counts[str(Path(folder).relative_to(root))] += sum(stem_of(file) in wanted for file in files)
    counts = +counts
    if not counts:
        return f"{text}; no file of any of their names is below {root}: is data.root the right folder?"
    (most, n_most) = counts.most_common(1)[0]
    if 2 * n_most < len(names) and len(counts) > 1:
        above = os.path.commonpath(list(counts))
        pattern = "**" if above in ("", ".") else f"{above}/**"
        of_them = f"{counts.total():,} of their names are in {len(counts):,} folders"
        return f"{text}; {of_them}: 'data.{what}s={pattern}'?"
    return f"{text}; {n_most:,} of their names are in {one_line(most)}: data.{what}s={one_line(most)}?"


def stem_of(name: str) -> str:
    """Returns what is alike of the name of a file without its folders and its ending."""
    path = PurePosixPath(name.replace("\\", "/"))
    return alike(path.name.removesuffix(path.suffix) if path.suffix.lower() in ENDINGS else path.name)


def _folders_there(root: Path) -> str:
    there = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    shown = ", ".join(map(one_line, there[:8])) + (", ..." if len(there) > 8 else "")
    return f"; it has: {shown}" if there else ""
