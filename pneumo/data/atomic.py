"""Files that are whole or not there: each is written beside its place and moved there in one step."""

import errno
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
        said = OSError(f"{path} cannot be written ({error.strerror}); the one before is whole")
        said.errno = error.errno
        raise said from None
    finally:
        beside.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether something could not be written since a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


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
