"""Decodes DICOM files with GDCM in other processes, since a damaged stream can make GDCM end its process.

ProcessPoolExecutor is not used, because its spawned workers outlive a parent that is killed."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable
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
    concurrently. Raises UnreadableError if the file cannot be decoded or the decoder dies."""
    decoder = idle.pop() if idle else started()
    assert decoder.stdin
    assert decoder.stdout
    try:
        decoder.stdin.write(json.dumps(str(path)).encode() + b"\n")
        decoder.stdin.flush()
        kind, size = decoder.stdout.readline().split()
        reply = decoder.stdout.read(int(size))
    except (ValueError, BrokenPipeError):
        stop(decoder)
        raise UnreadableError("cannot be decoded: its stream is so damaged that the decoder died") from None
    except BaseException:  # Ctrl-C: a reply is still to come
        stop(decoder)
        raise
    idle.append(decoder)
    if kind == b"problem":
        raise UnreadableError(reply.decode())
    stored: Stored = np.load(BytesIO(reply))
    return stored


def started() -> subprocess.Popen[bytes]:
    """Starts a decoder in a new session, so that Ctrl-C does not reach it. It ends when its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", SERVING],
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
