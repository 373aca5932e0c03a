"""`pneumo predict RUN PATH...`: the predictions of a run on image files, a CSV row for each file in their
order."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, TextIO

from pneumo.data.files import counted, image_files
from pneumo.display.console import Terminal
from pneumo.errors import InputError, one_line
from pneumo.inference.file_predictions import FilePrediction, predict_files
from pneumo.inference.model import decision_of, load_model
from pneumo.runs import tracking
from pneumo.training.predict import tta_transforms

COUNTED = ("positive", "negative", "flagged", "trained_on", "unreadable")
KNOWN = "are images that it was trained on, which say nothing about new ones: see the column trained_on"
NOTES = (  # what is counted, its topic on the terminal, and what is to be known about such files
    ("flagged", "flagged", "evidently no frontal chest radiograph: see the column flag"),
    ("trained_on", "known", KNOWN),
    ("unreadable", "broken", "cannot be read: see the column error"),
)


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
        counts = write_rows(
            file, predict_files(model, decision, paths, transforms, heatmaps), len(paths), terminal
        )
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


def write_rows(
    file: TextIO, found: Iterator[FilePrediction], n_files: int, terminal: Terminal
) -> Counter[str]:
    """Writes the rows below the names of their columns, and returns how many there are of each kind in
    COUNTED. InputError: none of the files can be read."""
    writer, counts = csv.writer(file), Counter(dict.fromkeys(COUNTED, 0))
    number = 0
    try:
        with terminal.progress("reading") as advance:
            for number, row in enumerate(found, 1):
                if number == 1:
                    writer.writerow(one.name for one in fields(FilePrediction))
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
        writer.writerows((one.name, one.metadata["meaning"]) for one in fields(FilePrediction))


def summary(counts: Counter[str], n_files: int) -> list[str]:
    """Lines for the terminal. `counts`: of files, by the names in COUNTED."""
    n_read = n_files - counts["unreadable"]
    notes = [f"{topic:<10}{counts[name]:,} {text}" for name, topic, text in NOTES if counts[name]]
    return [f"{'positive':<10}{counts['positive']:,} of {n_read:,} that could be read", *notes]
