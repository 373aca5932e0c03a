"""Hashes of the bytes of files; a file is read again only when it may have changed.

Hashes are kept in <store_dir>/contents.npy. Each of its m rows has a hash of a file's absolute path, of its
state (size, times of change, inode) and of its bytes, and the day of its last use. n is the number of
requested paths."""

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
    """Hashes of n files, in the order of their paths."""

    hashes: Hashes  # (n,)
    changed: npt.NDArray[np.bool_]  # (n,): whether the kept hash was another
    unnoticed: npt.NDArray[np.bool_]  # (n,): changed, with the same size, times and inode


def hash_of(content: bytes) -> int:
    """Returns a signed 64-bit hash, neither 0 nor UNREADABLE."""
    return _signed(blake2b(content, digest_size=8).digest())


def contents(paths: Sequence[Path], store_dir: Path | None, verify: bool = False) -> Contents:
    """Returns hashes of files: kept ones, unless the state of the file has changed or `verify` is set."""
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
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _state(path: Path) -> tuple[int, int]:
    """Returns a hash of a file's state, and 1 if the next change is sure to alter the state, else 0."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hash_of(repr(state).encode()), int(time.time() - status.st_ctime > SETTLED_SECONDS)


def _read(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return _signed(file_digest(file, lambda: blake2b(digest_size=8)).digest())
    except OSError:
        return UNREADABLE


def _signed(digest: bytes) -> int:
    """Returns a digest as a number, but not 0 or UNREADABLE, which have a meaning of their own."""
    number = int.from_bytes(digest, "little", signed=True)
    return number if number not in (0, UNREADABLE) else 1


def _remembered(store_dir: Path | None) -> Hashes:
    """Returns the kept rows (m, 4); none if the file is missing or damaged."""
    with suppress(OSError, ValueError, EOFError):
        if store_dir is not None:
            with (store_dir / NAME).open("rb") as file:
                known: Hashes = np.lib.format.read_array(file)
            if known.ndim == 2 and known.shape[1] == 4 and known.dtype == np.int64:
                return known
    return np.zeros((0, 4), np.int64)


def _remember(store_dir: Path | None, before: Hashes, now: Hashes, settled: npt.NDArray[np.bool_]) -> None:
    """Adds new rows to the file. If it cannot be written, the image files are read again next time."""
    today = int(time.time() // SECONDS_OF_A_DAY)
    good = settled & (now[:, CONTENT] != UNREADABLE)
    stale = (before[:, :DAY] != now).any(axis=1) | (before[:, DAY] < today - DAYS_BETWEEN_WRITES)
    if store_dir is None or not (good & stale).any():
        return
    from filelock import FileLock  # not installed where a model is served

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
    """Returns 64 hexadecimal digits that identify texts, numbers, arrays, tensors, and mappings and sequences
    of them. They depend on the order of a mapping's items, not on the memory layout of an array."""
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
