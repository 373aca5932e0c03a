"""The files below a folder, however deep."""

import os
from dataclasses import dataclass
from pathlib import Path


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
