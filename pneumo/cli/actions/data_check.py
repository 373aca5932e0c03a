"""`pneumo data check [data=...]`: reads a whole data set and reports what a training on it would meet."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pneumo.cli.actions import data_expect
from pneumo.cli.actions.data_words import last_of_each, train_command
from pneumo.data.audit import Audit, audit
from pneumo.data.cohort import Cohort
from pneumo.data.contents import contents
from pneumo.data.dataset import Dataset
from pneumo.data.reasons import by_reason
from pneumo.data.sources.base import Source
from pneumo.data.split import PARTS, Rows, Split, split_cohort
from pneumo.data.store import Store, open_store
from pneumo.display.console import Terminal
from pneumo.display.format import duration
from pneumo.errors import InputError, listed, one_line
from pneumo.runs import config, messages
from pneumo.training.lesion_retention import sampled_lesions, share_of_lesions_lost

N_DRAWS = 4  # of each lesion


def check(overrides: Sequence[str], source: Source, cohort: Cohort, verify: bool = False) -> dict[str, Any]:
    """Prints counts, duplicates, lesions and notes, keeps the pixels in the store that a training uses, and
    returns the numbers. `source` and `cohort`, without the rows that cannot be used, are those of the
    overrides. With `verify`, files are read again even where they look unchanged. Rows that cannot be used
    are returned as lines under `unusable`, and printed if the source leaves them out."""
    leaves_out, source = source.on_error == "skip", replace(source, on_error="skip")
    augments = {
        name: config.load(config.compose_train([*overrides, f"augment={name}"])).augment
        for name in config.choices_of("augment")
    }
    terminal = Terminal()
    folder = Path(source.store_dir)
    changed = _verify(terminal, cohort, folder) if verify else None
    if changed:
        cohort = source()  # the headers of DICOM files that looked unchanged
    if expected := data_expect.reading(cohort, source.image_side_px, folder):
        terminal.say("expect", expected.line(len(cohort), source.image_side_px, folder))
    with terminal.progress("data") as advance:
        cohort, store = open_store(cohort, source.image_side_px, folder, source.on_error, advance)
    split, why_not = _split(cohort, source)
    result = audit(cohort, store, split)
    splits: dict[str, Rows] = {name: getattr(split, name) for name in PARTS} if split else {}
    splits["all"] = np.arange(len(cohort))
    counts = {name: _counts(cohort.table.iloc[rows]) for name, rows in splits.items()}
    _print_counts(terminal, cohort, store, counts)
    terminal.say("split", messages.split_line(split) if split else f"none: {why_not}")
    _print_duplicates(terminal, cohort, result)
    _print_lesions(terminal, result)
    lesions = sampled_lesions(store)
    lost = {
        name: share_of_lesions_lost(augment, store, lesions, augment.relabel_lost_below, N_DRAWS)
        for name, augment in augments.items()
        if len(lesions)
    }
    if lost:
        shares = " · ".join(f"{name} {share:.1%}" for name, share in lost.items())
        terminal.say("augments", f"share of augmented positives that lose the lesion: {shares}")
    notes = [*cohort.notes, *store.notes, *(split.notes if split else ())]
    for note in notes:
        terminal.warn(note)
    if not cohort.skipped:
        terminal.say("files", f"all {len(cohort):,} can be read")
    elif leaves_out:
        heading = f"{len(cohort.skipped):,} rows cannot be used and are left out:"
        terminal.say("files", listed(heading, lines_of(cohort.skipped)))
    epoch = data_expect.epoch(Dataset(cohort, store, split), overrides) if split else None
    train = _train(overrides, cohort) if split else None
    terminal.say("expect", epoch.line()) if epoch else None
    terminal.say("train", train or f"not yet: {why_not}")
    duplicates = {
        "images": _images(result.duplicates),
        "with_other_label": _images(result.duplicates_of_two_labels),
        "in_other_split": _images(result.duplicates_across_splits),
    }
    return {
        "data": cohort.name,
        "image_side_px": source.image_side_px,
        "changed_files": changed,
        "counts": counts,
        "duplicates": duplicates,
        "annotated_lesions": len(result.lesion_shares),
        "positives_without_annotation": result.unannotated,
        "lost_lesions": lost,
        "notes": notes,
        "estimated_seconds_to_decode": expected.seconds if expected else None,
        "estimated_seconds_an_epoch": epoch.seconds if epoch else None,
        "train": train,
        "root": str(cohort.root),
        "unusable": list(cohort.skipped),
    }


def refuse_unusable(result: Mapping[str, Any]) -> None:
    """InputError: a check has found rows that cannot be used; it gives all reasons, and --json all rows."""
    if rows := result["unusable"]:
        lines = lines_of(rows)
        raise InputError(listed(f"{result['root']}: {len(rows):,} rows cannot be used:", lines, len(lines)))


def lines_of(unusable: Sequence[str]) -> list[str]:
    """Lines of rows that cannot be used, one a reason."""
    parts = (row.partition(": ") for row in unusable)
    return [f"{place}: {text}" for place, text in by_reason((place, text) for place, _, text in parts)]


def _split(cohort: Cohort, source: Source) -> tuple[Split | None, str]:
    """The split, or why there can be none."""
    try:
        return split_cohort(cohort, source), ""
    except InputError as error:
        return None, str(error)


def _train(overrides: Sequence[str], cohort: Cohort) -> str:
    """The command that trains on what was checked, without the rows that cannot be used."""
    skip = ["data.on_error=skip"] if cohort.skipped else []
    return train_command([*map(shlex.quote, last_of_each([*overrides, *skip]))])


def _verify(terminal: Terminal, cohort: Cohort, folder: Path) -> int:
    """Reads all files again and names those that hold other bytes than before; returns how many do."""
    files = cohort.pixels.files()
    read = contents([cohort.root / file for file in files], folder, verify=True)
    changed = [file for file, other in zip(files, read.changed, strict=True) if other]
    text = f"{len(files):,} files read again; {len(changed):,} hold other bytes than before"
    terminal.say("verified", text)
    if unnoticed := int(read.unnoticed.sum()):
        terminal.warn(f"{unnoticed:,} of them changed with size, times and inode as they were")
    for file in changed:
        terminal.line(f"  {one_line(file)}")
    return len(changed)


def _counts(table: pd.DataFrame) -> dict[str, int]:
    """Images, known patients, positives, views and sexes in some rows of a cohort's table."""
    return {
        "images": len(table),
        "patients": int(table["patient_id"].nunique()),
        "positive": int((table["label"] == 1).sum()),
        **{view: int((table["view"] == view).sum()) for view in ("AP", "PA")},
        **{sex: int((table["sex"] == sex).sum()) for sex in ("F", "M")},
    }


def _print_counts(
    terminal: Terminal, cohort: Cohort, store: Store, counts: Mapping[str, Mapping[str, int]]
) -> None:
    seconds, side = store.build_seconds, store.pixels.shape[1]
    how = f"read in {duration(seconds)}" if seconds is not None else "read before"
    terminal.say("data", f"{cohort.name} at {side} px, {how}, kept in {store.folder} for training")
    if cohort.columns:
        terminal.say("columns", cohort.columns)
    cells = "{images:,}|{patients:,}|{positive:,} ({share:.1%})|{AP:,} / {PA:,}|{F:,} / {M:,}"
    rows = []
    for name, of_split in counts.items():
        share = of_split["positive"] / of_split["images"] if of_split["images"] else np.nan
        rows.append([name, *cells.format(**of_split, share=share).split("|")])
    terminal.line()
    terminal.table(["", "images", "patients known", "positive", "AP / PA", "F / M"], rows)
    terminal.line()


def _images(duplicates: Sequence[Rows]) -> int:
    return sum(map(len, duplicates))


def _print_duplicates(terminal: Terminal, cohort: Cohort, result: Audit) -> None:
    if not result.duplicates:
        terminal.say("pixels", "no two images have equal pixels")
        return
    where = cohort.table["where"]
    for what, duplicates in (
        ("have the same pixels as another", result.duplicates),
        ("have the same pixels as one with the other label", result.duplicates_of_two_labels),
        ("have the same pixels as one in another split", result.duplicates_across_splits),
    ):
        if duplicates:
            example = " = ".join(where.iloc[row] for row in duplicates[0][:2])
            terminal.say("pixels", f"{_images(duplicates):,} images {what}, e.g. {example}")


def _print_lesions(terminal: Terminal, result: Audit) -> None:
    shares = result.lesion_shares
    without = f"; {result.unannotated:,} positives have no annotated lesion" if result.unannotated else ""
    if not len(shares):
        terminal.say("lesions", f"none annotated{without}")
        return
    quantiles = np.quantile(shares, [0.05, 0.25, 0.5, 0.75, 0.95])
    low, quarter, median, three, high = (f"{share:.2%}" for share in quantiles)
    terminal.say(
        "lesions",
        f"{len(shares):,} annotated{without}; share of the image: median {median}, half of them {quarter} to "
        f"{three}, nine in ten {low} to {high}, largest {shares.max():.1%}",
    )
