"""Decodes DICOM files with GDCM in other processes, since a damaged stream can make GDCM end its process.

ProcessPoolExecutor is not used, because its spawned workers outlive a parent that is killed."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo.data.decode.grayscale import UnreadableError

Stored = npt.NDArray[np.integer[Any]]
PACKAGES = Path(__file__).parents[3]
SERVING = "from pneumo.data.decode import dicom, gdcm_process; gdcm_process.serve(dicom.stored)"
idle: list[subprocess.Popen[bytes]] = []  # decoders, kept for the next file


def decoded(path: Path) -> Stored:
    """Returns the (H, W) array of `dicom.stored`, decoded in another process. Threads may call it
    concurrently. Raises UnreadableError if the file cannot be decoded or the decoder dies. An idle decoder
    may have died before it was given the file, so a new one decides."""
    decoder = taken()
    answer = decoder and answered(decoder, path)
    answer = answer or answered(started(), path)
    if answer is None:
        raise UnreadableError("cannot be decoded: its stream is so damaged that the decoder died")
    kind, reply = answer
    if kind == b"problem":
        raise UnreadableError(reply.decode())
    stored: Stored = np.load(BytesIO(reply))
    return stored


def taken() -> subprocess.Popen[bytes] | None:
    """Takes one of the idle decoders; None if there is none."""
    with suppress(IndexError):  # another thread may take the last one
        return idle.pop()
    return None


def answered(decoder: subprocess.Popen[bytes], path: Path) -> tuple[bytes, bytes] | None:
    """Returns the kind and the content of a decoder's reply, after which it is idle; None if it dies."""
    assert decoder.stdin
    assert decoder.stdout
    try:
        # the whole path, since the decoder stays in the folder in which it was started
        decoder.stdin.write(json.dumps(str(path.absolute())).encode() + b"\n")
        decoder.stdin.flush()
        kind, size = decoder.stdout.readline().split()
        reply = decoder.stdout.read(int(size))
    except (ValueError, BrokenPipeError):
        stop(decoder)
        return None
    except BaseException:  # Ctrl-C: a reply is still to come
        stop(decoder)
        raise
    idle.append(decoder)
    return kind, reply


def started() -> subprocess.Popen[bytes]:
    """Starts a decoder in a new session, so that Ctrl-C does not reach it. It ends when its input ends. -P
    keeps it from importing the files of the folder in which it is started, such as a json.py."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", SERVING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        start_new_session=True,
    )


def stop(decoder: subprocess.Popen[bytes]) -> None:
    """Kills a decoder and waits for its end."""
    decoder.kill()
    decoder.communicate()


@atexit.register
def stop_all() -> None:
    """Stops all idle decoders, at the latest when the interpreter exits."""
    while idle:
        stop(idle.pop())


def serve(read: Callable[[Path], Stored]) -> None:
    """Reads paths from standard input and writes arrays to standard output, until the input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the decoder prints
    for line in sys.stdin:
        try:
            buffer = BytesIO()
            np.save(buffer, read(Path(json.loads(line))))
            kind, reply = "array", buffer.getvalue()
        except UnreadableError as error:
            kind, reply = "problem", str(error).encode()
        replies.write(f"{kind} {len(reply)}\n".encode() + reply)
        replies.flush()
