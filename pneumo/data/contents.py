"""What files hold, as 64-bit hashes: a file is read once, and again only when it may have changed.

What was read is remembered in <store_dir>/contents.npy, a row a file: hashes of its absolute path and of its
state (size, times of change, inode), of its bytes, and the day it was last asked for.
"""

# n paths that are asked for, m rows that are remembered

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo.data.atomic import atomic_path, remove_leftovers

Hashes = npt.NDArray[np.int64]

FORMAT = 1  # of digests and identities, so that a later way of computing them is never taken for this one
NAME = "contents.npy"
UNREADABLE = -1  # instead of a hash: the file cannot be opened
PATH, STATE, CONTENT, DAY = range(4)
SETTLED_SECONDS = 2.0  # a file changed within one tick of a disk's clock (FAT: 2 s) looks unchanged
MOST_REMEMBERED = 2**20  # files: 32 MB
DAYS_BETWEEN_WRITES = 7
SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True)
class Contents:
    """Of n paths, in their order."""

    hashes: Hashes  # (n,)
    changed: npt.NDArray[np.bool_]  # (n,): remembered with other bytes
    unnoticed: npt.NDArray[np.bool_]  # (n,): those of them whose size, times and inode are as they were


def hash_of(content: bytes) -> int:
    """64 bits with a sign."""
    return _signed(blake2b(content, digest_size=8).digest())


def contents(paths: Sequence[Path], store_dir: Path | None, verify: bool = False) -> Contents:
    """Hashes of the files' bytes: remembered ones, unless the file's state has changed or `verify` is set."""
    names = np.array([hash_of(os.fsencode(os.path.abspath(path))) for path in paths], np.int64)  # noqa: PTH100
    known = _remembered(store_dir)
    order = np.argsort(known[:, PATH])
    known = known[order]
    at = np.searchsorted(known[:, PATH], names)
    there = at < len(known)
    there[there] = known[at[there], PATH] == names[there]
    states = np.array([_state(path) for path in paths], np.int64).reshape(-1, 2)
    before = np.zeros((len(paths), 4), np.int64)
    before[there] = known[at[there]]
    same = there & (before[:, STATE] == states[:, 0])
    found = before[:, CONTENT].copy()
    read = np.flatnonzero(~same | verify)
    with ThreadPoolExecutor(cores(), thread_name_prefix="hash") as pool:
        found[read] = list(pool.map(_read, [paths[i] for i in read.tolist()]))
    changed = there & (found != before[:, CONTENT])
    _remember(store_dir, before, np.stack([names, states[:, 0], found], axis=1), states[:, 1] > 0)
    return Contents(found, changed, changed & same)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _state(path: Path) -> tuple[int, int]:
    """A hash of what changes with a file's bytes, and 1 if that is sure to tell of the next change."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    said = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hash_of(repr(said).encode()), int(time.time() - status.st_ctime > SETTLED_SECONDS)


def _read(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return _signed(file_digest(file, lambda: blake2b(digest_size=8)).digest())
    except OSError:
        return UNREADABLE


def _signed(digest: bytes) -> int:
    """Never 0 or UNREADABLE, which mean something else."""
    number = int.from_bytes(digest, "little", signed=True)
    return number if number not in (0, UNREADABLE) else 1


def _remembered(store_dir: Path | None) -> Hashes:
    """(m, 4); nothing where the file is not there or damaged."""
    nothing = np.zeros((0, 4), np.int64)
    if store_dir is None:
        return nothing
    try:
        with (store_dir / NAME).open("rb") as file:
            known: Hashes = np.lib.format.read_array(file)
    except (OSError, ValueError, EOFError):
        return nothing
    return known if known.ndim == 2 and known.shape[1] == 4 and known.dtype == np.int64 else nothing


def _remember(store_dir: Path | None, before: Hashes, now: Hashes, settled: npt.NDArray[np.bool_]) -> None:
    """Write what is new, unless the folder cannot be written to: then the files are read again next time."""
    today = int(time.time() // SECONDS_OF_A_DAY)
    good = settled & (now[:, CONTENT] != UNREADABLE)
    stale = (before[:, :DAY] != now).any(axis=1) | (before[:, DAY] < today - DAYS_BETWEEN_WRITES)
    if store_dir is None or not (good & stale).any():
        return
    from filelock import FileLock  # which is not there where a model is served

    new = np.column_stack([now[good], np.full(good.sum(), today)])
    with suppress(OSError):
        store_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(store_dir / f"{NAME}.lock"):
            remove_leftovers(store_dir / NAME)
            known = np.concatenate([new, _remembered(store_dir)])
            _, firsts = np.unique(known[:, PATH], return_index=True)
            known = known[firsts]
            known = known[np.argsort(-known[:, DAY], kind="stable")][:MOST_REMEMBERED]
            with atomic_path(store_dir / NAME) as beside, beside.open("wb") as file:
                np.save(file, known)


def digest(*parts: object) -> str:
    """64 hex digits of texts, numbers, arrays, tensors, and mappings and sequences of them. The order of a
    mapping's items counts, the memory layout of an array does not."""
    whole = hashlib.sha256(f"pneumo identity {FORMAT}".encode())

    def add(part: object) -> None:
        if hasattr(part, "detach"):  # a tensor
            part = part.detach().cpu().numpy()
        if isinstance(part, np.ndarray):
            whole.update(f"|{part.dtype.str}{part.shape}|".encode())
            whole.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, Mapping):
            whole.update(f"|mapping of {len(part)}|".encode())
            for key, value in part.items():
                add(key)
                add(value)
        elif isinstance(part, (list, tuple)):
            whole.update(f"|sequence of {len(part)}|".encode())
            for item in part:
                add(item)
        else:
            text = f"{type(part).__name__} {part}"
            whole.update(f"|{len(text)} {text}|".encode())

    for part in parts:
        add(part)
    return whole.hexdigest()
