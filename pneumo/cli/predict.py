"""pneumo predict: a run's model over files, a row of a CSV for each, in their order."""

# B images of a batch, S their side

import csv
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

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

COLUMNS = ("path", "score", "probability", "decision", "flag", "error", "trained_on")
AHEAD = 4  # files that are read before they are needed, for each core


@dataclass(frozen=True)
class Row:
    path: str
    score: str = ""
    probability: str = ""
    decision: str = ""
    flag: str = ""
    error: str = ""
    trained_on: str = ""  # "yes": its bytes are those of an image that the model was trained on


def predict(name: str, named: Sequence[str], out: Path, heatmaps: Path | None, tta: str | None) -> None:
    """Writes `out` when all is done; until then, and if it is stopped, rows are in the file beside it.
    InputError: no such run, path, views or folder for `out`, or `out` is one of the files."""
    if not out.parent.is_dir():
        raise InputError(f"out={out}: there is no folder {out.parent}")
    if out.exists() and not out.is_file():
        raise InputError(f"out={out} is {'a folder' if out.is_dir() else 'no plain file'}")
    if heatmaps and heatmaps.exists() and not heatmaps.is_dir():
        raise InputError(f"heatmaps={heatmaps} is not a folder")
    if tta is not None:
        tta_transforms(tta)
    paths, left_out = image_files(named)
    part = out.with_name(f"{out.name}.part")
    for written in (out, part):
        if written.exists() and any(written.samefile(path) for path in paths):
            raise InputError(f"out={out}: {written} is one of the files to be read")
    tracking.connect()
    model = load_model(name)
    frozen = decision_of(model)
    transforms = tta_transforms(tta or model.experiment.tta)
    if heatmaps:
        heatmaps.mkdir(parents=True, exist_ok=True)
    terminal = Terminal()
    terminal.say("model", f"run {model.run_id} · {model.side_px} px · threshold {frozen.threshold:.3g}")
    for caution in model.cautions:
        terminal.warn(f"          {caution}")
    terminal.say("files", f"{len(paths):,}" + (f" · left out: {counted(left_out)}" if left_out else ""))
    counts: Counter[str] = Counter()
    try:
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            with terminal.progress("reading") as advance:
                for number, row in enumerate(rows(model, frozen, paths, transforms, heatmaps), 1):
                    writer.writerow([getattr(row, column) for column in COLUMNS])
                    counts += Counter(
                        [row.decision, *["flagged"] * bool(row.flag), *["trained on"] * bool(row.trained_on)]
                    )
                    advance(number, len(paths))
    except KeyboardInterrupt:
        terminal.warn(
            f"stopped after {counts['positive'] + counts['negative'] + counts['']:,} of "
            f"{len(paths):,} files; their rows are in {part}"
        )
        raise
    part.replace(out)
    terminal.line()
    for line in summary(counts, len(paths)):
        terminal.line(line)
    terminal.say("written", f"{out}" + (f" · heat maps in {heatmaps}" if heatmaps else ""))


def summary(counts: Counter[str], n_files: int) -> list[str]:
    """`counts` of decisions ("" = broken), flags and images that were trained on."""
    read = n_files - counts[""]
    lines = [f"{'positive':<10}{counts['positive']:,} of {read:,} that could be read"]
    if counts["flagged"]:
        lines.append(
            f"{'flagged':<10}{counts['flagged']:,} plainly no frontal chest film: see the column flag"
        )
    if counts["trained on"]:
        lines.append(
            f"{'known':<10}{counts['trained on']:,} it was trained on: these say nothing of new ones, see "
            "the column trained_on"
        )
    if counts[""]:
        lines.append(f"{'broken':<10}{counts['']:,} not readable: see the column error")
    return lines


def rows(
    model: LoadedModel,
    frozen: Decision,
    paths: Sequence[str],
    transforms: list[TtaTransform],
    heatmaps: Path | None,
) -> Iterator[Row]:
    """One for each path, in their order, a batch at a time."""
    read = decoded(paths, model.side_px)
    seen = set(model.seen.content.tolist()) if model.seen else set()
    size, done = 2 * model.experiment.fit.batch_size, 0
    while batch := list(islice(read, size)):
        good = [one for one in batch if isinstance(one, Radiograph)]
        judged = iter(verdicts(model, frozen, good, transforms))
        if heatmaps:
            heats = iter(hires_cam(model, stacked(good)) if good else [])
        for path, one in zip(paths[done : done + len(batch)], batch, strict=True):
            done += 1
            if isinstance(one, str):
                yield Row(path, error=one)
                continue
            if heatmaps:
                stem = one_line(os.fsencode(Path(path).stem).decode(errors="replace"))[:60]
                save_heat_map(one.pixels, next(heats), heatmaps / f"{done:06}_{stem}.png")
            known = "yes" if seen and hash_of(Path(path).read_bytes()) in seen else ""
            yield Row(path, *next(judged), flag=one.flag, trained_on=known)


def verdicts(
    model: LoadedModel, frozen: Decision, read: Sequence[Radiograph], transforms: list[TtaTransform]
) -> list[tuple[str, str, str]]:
    """Score, calibrated probability and decision of each, as they are written."""
    if not read:
        return []
    scores = model.scores(stacked(read), transforms)
    probabilities, decisions = frozen.probabilities(scores), frozen.of(scores)
    return [
        (f"{score:.6f}", f"{probability:.6f}", str(said))
        for score, probability, said in zip(scores, probabilities, decisions, strict=True)
    ]


def stacked(read: Sequence[Radiograph]) -> Tensor:
    """(B, 1, S, S) uint8"""
    return torch.from_numpy(np.stack([one.pixels for one in read]))[:, None]


def decoded(paths: Sequence[str], side_px: int) -> Iterator[Radiograph | str]:
    """Films, or why one cannot be read, in order; threads read a few ahead, so that memory stays the same
    for any number of paths."""
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
    ahead: deque[Future[Radiograph | str]] = deque()
    try:
        for path in paths:
            ahead.append(pool.submit(_read, path, side_px))
            if len(ahead) > AHEAD * cores():
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: str, side_px: int) -> Radiograph | str:
    try:
        return read_radiograph(Path(path), side_px)
    except UnreadableError as problem:
        return one_line(str(problem))
