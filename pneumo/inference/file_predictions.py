"""The predictions of a model on image files, in their order, a batch at a time."""

# B images of a batch, S their side in pixels

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pneumo.data.contents import cores, hash_of
from pneumo.data.decode.grayscale import UnreadableError
from pneumo.errors import one_line
from pneumo.inference.decision import Decision
from pneumo.inference.heatmap import save_heat_map
from pneumo.inference.model import LoadedModel
from pneumo.inference.radiograph import Radiograph, read_radiograph
from pneumo.inference.saliency import hires_cam
from pneumo.training.predict import TtaTransform

READ_AHEAD = 4  # files for each core


def column(meaning: str) -> str:
    """A column of the CSV, empty where it is not known; `meaning` is told in the file of columns."""
    text: str = field(default="", metadata={"meaning": meaning})
    return text


@dataclass(frozen=True)
class FileRead:
    """A radiograph, and the hash of the bytes of its file."""

    radiograph: Radiograph
    content: int


@dataclass(frozen=True)
class FilePrediction:
    """What is told of a file, as text: a row of the CSV."""

    path: str = column("the file, as it was given or found in a folder")
    score: str = column("P(pneumothorax) as the model was trained to give it; the decision rests on it")
    threshold: str = column("the score from which on a file is called positive: the best F1 on validation")
    decision: str = column("positive where the score is at or above the threshold, else negative")
    probability: str = column("the score after Platt scaling on validation; nothing is decided on it")
    flag: str = column(
        "why the file is evidently no frontal chest radiograph, or none to look at yet; it has a score"
    )
    error: str = column("why the file could not be read")
    trained_on: str = column("yes: the file has the bytes of an image that the model was trained on")


def predict_files(
    model: LoadedModel,
    decision: Decision,
    paths: Sequence[str],
    transforms: list[TtaTransform],
    heatmaps: Path | None,
) -> Iterator[FilePrediction]:
    """A prediction for each path, in their order, computed a batch at a time."""
    read = decoded(paths, model.side_px)
    seen = set(model.seen.content.tolist()) if model.seen else set()
    size, done = 2 * model.experiment.fit.batch_size, 0
    while batch := list(islice(read, size)):
        readable = [each.radiograph for each in batch if isinstance(each, FileRead)]
        decided = iter(decide(model, decision, readable, transforms))
        if heatmaps:
            maps = iter(hires_cam(model, stacked(readable)) if readable else [])
        for path, each in zip(paths[done : done + len(batch)], batch, strict=True):
            done += 1
            if isinstance(each, str):
                yield FilePrediction(path, error=each)
                continue
            if heatmaps:
                stem = one_line(os.fsencode(Path(path).stem).decode(errors="replace"))[:60]
                save_heat_map(each.radiograph.pixels, next(maps), heatmaps / f"{done:06}_{stem}.png")
            known = "yes" if each.content in seen else ""
            yield FilePrediction(path, **next(decided), flag=each.radiograph.flag, trained_on=known)


def decide(
    model: LoadedModel, decision: Decision, read: Sequence[Radiograph], transforms: list[TtaTransform]
) -> list[dict[str, str]]:
    """What is predicted of each radiograph, as text of the CSV, by column."""
    if not read:
        return []
    scores = model.scores(stacked(read), transforms)
    probabilities, decisions = decision.probabilities(scores), decision.of(scores)
    return [
        {
            "score": f"{score:.6f}",
            "threshold": f"{decision.threshold:.6f}",
            "decision": str(called),
            "probability": f"{probability:.6f}",
        }
        for score, probability, called in zip(scores, probabilities, decisions, strict=True)
    ]


def stacked(read: Sequence[Radiograph]) -> Tensor:
    """(B, 1, S, S) uint8"""
    return torch.from_numpy(np.stack([radiograph.pixels for radiograph in read]))[:, None]


def decoded(paths: Sequence[str], side_px: int) -> Iterator[FileRead | str]:
    """Files in the order of their paths, or the reason why one cannot be read. Threads read only a few
    ahead, so that memory does not grow with the number of paths."""
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
    ahead: deque[Future[FileRead | str]] = deque()
    try:
        for path in paths:
            ahead.append(pool.submit(_read, path, side_px))
            if len(ahead) > READ_AHEAD * cores():
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: str, side_px: int) -> FileRead | str:
    file = Path(path)
    try:
        return FileRead(read_radiograph(file, side_px), hash_of(file.read_bytes()))
    except UnreadableError as problem:
        return one_line(str(problem))
    except OSError as problem:  # it has disappeared since the folder was searched, or its disk fails
        return one_line(f"{file.name} cannot be read: {problem.strerror or problem}")
