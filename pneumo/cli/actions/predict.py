"""`pneumo predict RUN PATH...`: the predictions of a run on image files, a CSV row for each file in their
order."""

# B images of a batch, S their side in pixels

import csv
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from pneumo.data.contents import cores, hash_of
from pneumo.data.decode.grayscale import UnreadableError
from pneumo.data.files import counted, image_files
from pneumo.display.console import Terminal
from pneumo.errors import InputError, one_line
from pneumo.inference.decision import Decision
from pneumo.inference.heatmap import save_heat_map
from pneumo.inference.model import LoadedModel, decision_of, load_model
from pneumo.inference.radiograph import Radiograph, read_radiograph
from pneumo.inference.saliency import hires_cam
from pneumo.runs import tracking
from pneumo.training.predict import TtaTransform, tta_transforms

COUNTED = ("positive", "negative", "flagged", "trained_on", "unreadable")
KNOWN = "are images that it was trained on, which say nothing about new ones: see the column trained_on"
NOTES = (  # what is counted, its topic on the terminal, and what is to be known about such files
    ("flagged", "flagged", "evidently no frontal chest radiograph: see the column flag"),
    ("trained_on", "known", KNOWN),
    ("unreadable", "broken", "cannot be read: see the column error"),
)
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
class Row:
    """A row of the CSV."""

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


def predict(
    run: str, given: Sequence[str], out: Path, heatmaps: Path | None, tta: str | None
) -> dict[str, Any]:
    """Writes the predictions of `run` on the `given` files and folders to `out`, with the meaning of its
    columns in a file beside it, and returns their counts. Rows are in OUT.part until all are done, and stay
    there if it is stopped. InputError: no such run, path, augmentation or folder of `out`, OUT.part is there,
    `out` is one of the files, none of them can be read, or `heatmaps` is not new or would be read next
    time."""
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and not out.is_file():
        raise InputError(f"--out {out} is {'a folder' if out.is_dir() else 'no plain file'}")
    if heatmaps:
        refuse_used_folder(heatmaps, given)
    if tta is not None:
        tta_transforms(tta)
    paths, left_out = image_files(given)
    partial, columns = out.with_name(f"{out.name}.part"), out.with_name(f"{out.stem}.columns.csv")
    for written in (out, partial, columns):
        if written.exists() and any(written.samefile(path) for path in paths):
            raise InputError(f"--out {out}: {written} is one of the files to be read")
    terminal = Terminal()
    with unfinished(partial) as file:  # before the model is loaded, which takes seconds
        tracking.connect()
        model = load_model(run)
        decision = decision_of(model)
        transforms = tta_transforms(tta or model.experiment.tta)
        if heatmaps:
            heatmaps.mkdir(parents=True, exist_ok=True)
        terminal.say("model", f"run {model.run_id} · {model.side_px} px · threshold {decision.threshold:.3g}")
        for caution in model.cautions:
            terminal.warn(f"          {caution}")
        rest = f" · left out: {counted(left_out)}" if left_out else ""
        terminal.say("files", f"{len(paths):,}{rest}")
        counts = write_rows(file, rows(model, decision, paths, transforms, heatmaps), len(paths), terminal)
    partial.replace(out)
    write_columns(columns)
    terminal.line()
    for line in summary(counts, len(paths)):
        terminal.line(line)
    in_folder = f" · heat maps in {heatmaps}" if heatmaps else ""
    terminal.say("written", f"{out}, and {columns} with what each column means{in_folder}")
    return {"run_id": model.run_id, "files": len(paths), **counts, "out": str(out)}


def refuse_used_folder(heatmaps: Path, given: Sequence[str]) -> None:
    """InputError: the folder of the heat maps is a file, lies in a folder to be read, where the maps would be
    predicted the next time, or holds files already, which could be taken for maps of this prediction."""
    if heatmaps.exists() and not heatmaps.is_dir():
        raise InputError(f"--heatmaps {heatmaps} is not a folder")
    for name in given:
        if heatmaps.resolve().is_relative_to(Path(name).resolve()):
            raise InputError(
                f"--heatmaps {heatmaps} lies in {one_line(name)}, so the maps would be predicted the next "
                "time: name a folder elsewhere"
            )
    held = next(heatmaps.iterdir(), None) if heatmaps.exists() else None
    if held is not None:
        raise InputError(
            f"--heatmaps {heatmaps} holds files already, such as {one_line(held.name)}: name a new folder"
        )


@contextmanager
def unfinished(path: Path) -> Iterator[TextIO]:
    """A new file to write rows to. Where the block ends in an error the file is removed; Ctrl-C leaves it if
    something is in it. InputError: the file is there."""
    try:
        file = path.open("x", newline="", encoding="utf-8", errors="surrogateescape")
    except FileExistsError:
        raise InputError(
            f"{path} is there: another prediction writes it, or an interrupted one left it; move or delete it"
        ) from None
    try:
        with file:
            yield file
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt) or path.stat().st_size == 0:
            path.unlink()
        raise


def write_rows(file: TextIO, found: Iterator[Row], n_files: int, terminal: Terminal) -> Counter[str]:
    """Writes the rows below the names of their columns, and returns how many there are of each kind in
    COUNTED. InputError: none of the files can be read."""
    writer, counts = csv.writer(file), Counter(dict.fromkeys(COUNTED, 0))
    number = 0
    try:
        with terminal.progress("reading") as advance:
            for number, row in enumerate(found, 1):
                if number == 1:
                    writer.writerow(one.name for one in fields(Row))
                writer.writerow(astuple(row))
                counts[row.decision or "unreadable"] += 1
                counts["flagged"] += bool(row.flag)
                counts["trained_on"] += bool(row.trained_on)
                advance(number, n_files)
    except KeyboardInterrupt:
        kept = f"; their rows are in {file.name}" if number else ""
        terminal.warn(f"stopped after {number:,} of {n_files:,} files{kept}")
        raise
    if counts["unreadable"] == n_files:
        raise InputError(
            f"None of the {n_files:,} files can be read, e.g. {one_line(row.path)}: {row.error}; give PNG, "
            "JPEG or DICOM files, or folders of them"
        )
    return counts


def write_columns(file: Path) -> None:
    """Writes what each column of the predictions means, as a CSV with the columns `column` and `meaning`."""
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(["column", "meaning"])
        writer.writerows((one.name, one.metadata["meaning"]) for one in fields(Row))


def summary(counts: Counter[str], n_files: int) -> list[str]:
    """Lines for the terminal. `counts`: of files, by the names in COUNTED."""
    n_read = n_files - counts["unreadable"]
    notes = [f"{topic:<10}{counts[name]:,} {text}" for name, topic, text in NOTES if counts[name]]
    return [f"{'positive':<10}{counts['positive']:,} of {n_read:,} that could be read", *notes]


def rows(
    model: LoadedModel,
    decision: Decision,
    paths: Sequence[str],
    transforms: list[TtaTransform],
    heatmaps: Path | None,
) -> Iterator[Row]:
    """A row for each path, in their order, computed a batch at a time."""
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
                yield Row(path, error=each)
                continue
            if heatmaps:
                stem = one_line(os.fsencode(Path(path).stem).decode(errors="replace"))[:60]
                save_heat_map(each.radiograph.pixels, next(maps), heatmaps / f"{done:06}_{stem}.png")
            known = "yes" if each.content in seen else ""
            yield Row(path, **next(decided), flag=each.radiograph.flag, trained_on=known)


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
