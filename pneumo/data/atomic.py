"""Files that are whole or not there: each is written beside its place and moved there in one step."""

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path, before_replace: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yields a path in the same folder to write to. When the block ends, that file is flushed to the disk,
    `before_replace` is called, and the file takes the place of `path`. If anything raises, the new file is
    removed and `path` stays as it was. OSError: the disk is full, say; the message names `path`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        flush_to_disk(beside)
        before_replace()
        beside.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror}); the one before is whole") from None
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Removes what killed processes wrote beside `path`. Only for callers that know of no other writer."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink()


def flush_to_disk(path: Path) -> None:
    """Waits until a file, or the list of files of a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
