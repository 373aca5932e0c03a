"""`pneumo data check [data=...]`: reads a whole data set and says what a training on it would meet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pneumo.components.augment import Augment
from pneumo.data.audit import Audit, audit
from pneumo.data.cohort import Cohort
from pneumo.data.contents import contents
from pneumo.data.sources.base import Source
from pneumo.data.split import PARTS, Rows, Split, split_cohort
from pneumo.data.store import Store, open_store
from pneumo.display.console import Terminal
from pneumo.display.format import duration
from pneumo.errors import InputError, listed, one_line
from pneumo.runs import config, messages

POSITIVES_LOOKED_AT, DRAWS = 512, 4  # at 512 px about ten seconds an augment on one core
BATCH = 64


def check(overrides: Sequence[str], verify: bool = False) -> None:
    """With `verify`, files are read again even where they look unchanged.

    InputError: a table cannot be read at all; or, when all else is said, some rows cannot be used."""
    if others := [word for word in overrides if config.key_of(word).split(".")[0] != "data"]:
        raise InputError(f"pneumo data check takes data=... and data.KEY=..., got {others[0]!r}")
    augments = {
        name: config.load(config.composed([*overrides, f"augment={name}"])).augment
        for name in config.names("augment")
    }
    source = replace(config.load(config.composed(overrides)).data, on_error="skip")
    terminal = Terminal()
    cohort, folder = source(), Path(source.store_dir)
    if verify:
        _say_verified(terminal, cohort, folder)
    with terminal.progress("data") as advance:
        cohort, store = open_store(cohort, source.image_side_px, folder, source.on_error, advance)
    split, why_not = _split(cohort, source)
    found = audit(cohort, store, split)
    _say_counts(terminal, cohort, store, split)
    terminal.say("split", messages.split(split) if split else f"none: {why_not}")
    _say_twins(terminal, cohort, found)
    _say_lesions(terminal, found)
    _say_lost(terminal, augments, store)
    for note in (*cohort.notes, *(split.notes if split else ())):
        terminal.warn(note)
    if cohort.skipped:
        raise unusable(cohort)
    terminal.say("files", f"all {len(cohort):,} can be read")


def share_lost(augment: Augment, store: Store, seed: int = 0) -> float:
    """The share of positive draws that keep less of a drawn lesion than `relabel_lost_below`."""
    drawn = np.linspace(0, len(store.lesions) - 1, min(len(store.lesions), POSITIVES_LOOKED_AT)).astype(int)
    rows = np.tile(drawn, DRAWS)
    draws = augment.draw(len(rows), torch.Generator().manual_seed(seed))
    lost = 0
    for start in range(0, len(rows), BATCH):
        masks = torch.from_numpy(store.lesions[rows[start : start + BATCH]])[:, None]
        surviving = augment.surviving(masks, draws[start : start + BATCH])
        lost += int((surviving < augment.relabel_lost_below).sum())
    return lost / len(rows)


def _split(cohort: Cohort, source: Source) -> tuple[Split | None, str]:
    """The split, or why there can be none."""
    try:
        return split_cohort(cohort, source), ""
    except InputError as error:
        return None, str(error)


def _say_verified(terminal: Terminal, cohort: Cohort, folder: Path) -> None:
    files = cohort.pixels.files()
    read = contents([cohort.root / file for file in files], folder, verify=True)
    changed = [file for file, other in zip(files, read.changed, strict=True) if other]
    terminal.say(
        "verified", f"{len(files):,} files read again; {len(changed):,} hold other bytes than before"
    )
    if unnoticed := int(read.unnoticed.sum()):
        terminal.warn(f"{unnoticed:,} of them changed with size, times and inode as they were")
    for file in changed:
        terminal.line(f"  {one_line(file)}")


def _say_counts(terminal: Terminal, cohort: Cohort, store: Store, split: Split | None) -> None:
    seconds = store.build_seconds
    how = f"read in {duration(seconds)}" if seconds is not None else "read before"
    side = store.pixels.shape[1]
    terminal.say("data", f"{cohort.name} at {side} px, {how}, kept in {store.folder} for training")
    everything = np.arange(len(cohort))
    parts: dict[str, Rows] = {name: getattr(split, name) for name in PARTS} if split else {}
    terminal.line()
    terminal.table(
        ["", "images", "patients known", "positive", "AP / PA", "F / M"],
        [_counts(name, cohort, rows) for name, rows in (*parts.items(), ("all", everything))],
    )
    terminal.line()


def _counts(name: str, cohort: Cohort, rows: Rows) -> list[str]:
    table = cohort.table.iloc[rows]
    views, sexes, positive = table["view"], table["sex"], table["label"] == 1
    return [
        name,
        f"{len(table):,}",
        f"{table['patient_id'].nunique():,}",
        f"{int(positive.sum()):,} ({positive.mean():.1%})",
        f"{int((views == 'AP').sum()):,} / {int((views == 'PA').sum()):,}",
        f"{int((sexes == 'F').sum()):,} / {int((sexes == 'M').sum()):,}",
    ]


def _say_twins(terminal: Terminal, cohort: Cohort, found: Audit) -> None:
    if not found.twins:
        terminal.say("twins", "no two images have equal pixels")
        return
    where = cohort.table["where"]
    for said, twins in (
        ("have the pixels of another", found.twins),
        ("have the pixels of one with the other label", found.twins_of_two_labels),
        ("have the pixels of one in another part of the split", found.twins_apart),
    ):
        if twins:
            example = " = ".join(where.iloc[row] for row in twins[0][:2])
            terminal.say("twins", f"{sum(map(len, twins)):,} images {said}, e.g. {example}")


def _say_lesions(terminal: Terminal, found: Audit) -> None:
    shares = found.lesion_shares
    undrawn = f"; {found.undrawn:,} positives have none drawn" if found.undrawn else ""
    if not len(shares):
        terminal.say("lesions", f"none drawn{undrawn}")
        return
    low, quarter, median, three, high = (
        f"{share:.2%}" for share in np.quantile(shares, [0.05, 0.25, 0.5, 0.75, 0.95])
    )
    terminal.say(
        "lesions",
        f"{len(shares):,} drawn{undrawn}; share of the image: median {median}, half of them {quarter} to "
        f"{three}, nine in ten {low} to {high}, largest {shares.max():.1%}",
    )


def _say_lost(terminal: Terminal, augments: Mapping[str, Augment], store: Store) -> None:
    """What each augment takes away; nothing is drawn without lesions."""
    if not len(store.lesions):
        return
    lost = [f"{name} {share_lost(augment, store):.1%}" for name, augment in augments.items()]
    terminal.say("augments", f"share of positive draws that lose the lesion: {' · '.join(lost)}")


def unusable(cohort: Cohort) -> InputError:
    total = len(cohort.skipped)
    return InputError(listed(f"{cohort.root}: {total:,} rows cannot be used:", cohort.skipped, shown=total))
