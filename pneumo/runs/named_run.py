"""The run that a name stands for: an id or its first digits, a run's name, `latest` or `best`."""

import re
from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches

from pneumo.display.format import decimal
from pneumo.errors import InputError, listed
from pneumo.runs import query
from pneumo.runs.best import VAL_AUROC, AnyOf, best_run
from pneumo.runs.listing import state_of
from pneumo.runs.query import RunRecord, split_number
from pneumo.runs.run_name import BEST, LATEST, PREFIX, RUN_ID, SHORTEST_PREFIX, check_run_name, is_best
from pneumo.runs.tracking import store_name

SHOWN_DIGITS = 8  # of a run id


def named_run(name: str, among: AnyOf | None = None, where_several: str | None = None) -> RunRecord:
    """The run of this name in MLflow, which has to be connected. `best@NAME` is `best` among the runs of a
    data set or a study; see `best_run` for that, `among` and `where_several`. InputError: no run or several
    have this name; the message lists them, or the nearest names."""
    check_run_name(name)
    if RUN_ID.fullmatch(name):
        return query.run_record(query.find_run(name))
    if is_best(name):
        of = name.partition("@")[2]
        return best_run({**(among or {}), **({"": of} if of else {})}, where_several)
    if name == LATEST:
        finished = query.trainings("attributes.status = 'FINISHED'", max_results=1)
        if not finished:
            raise InputError(f"MLflow at {store_name()} has no finished run: train one first")
        return finished[0]
    candidates = {run.run_id: run for run in called(name)}
    if len(candidates) > 1:
        heading = f"{len(candidates)} runs are called {name}. Name one by the first digits of its id:"
        raise InputError(listed(heading, described(list(candidates.values()))))
    if not candidates:
        raise InputError(f"MLflow at {store_name()} has no run {name}{nearest(name)}")
    return next(iter(candidates.values()))


def called(name: str) -> list[RunRecord]:
    """The runs whose name this is, or whose id begins with it, the latest first."""
    quote = '"' if "'" in name else "'"
    by_name = [] if quote in name else query.search(f"attributes.run_name = {quote}{name}{quote}")
    by_id = query.search(f"attributes.run_id LIKE '{name.lower()}%'") if PREFIX.fullmatch(name) else []
    return [query.run_record(run) for run in [*by_name, *by_id]]


def nearest(name: str) -> str:
    """The names of runs that are most like this one, to end a sentence with."""
    runs = query.trainings()
    if not runs:
        return ": it has none at all, train one first"
    names = list(dict.fromkeys(run.name for run in runs))
    containing = [other for other in names if name.lower() in other.lower()]
    words = get_close_matches(name, [BEST, LATEST], cutoff=0.7)
    like = list(dict.fromkeys([*words, *containing, *get_close_matches(name, names, cutoff=0.5)]))[:3]
    if re.fullmatch(rf"[0-9a-f]{{1,{SHORTEST_PREFIX - 1}}}", name.lower()):
        return f". Of an id, at least {SHORTEST_PREFIX} digits are needed"
    return f". Did you mean {' or '.join(like)}?" if like else "; `pneumo runs` lists those that there are"


def described(runs: Sequence[RunRecord]) -> list[str]:
    """A line for each run, which begins with as many digits of its id as tell it from the others."""
    digits = SHOWN_DIGITS
    while len({run.run_id[:digits] for run in runs}) < len(runs):
        digits += 4
    return [f"{run.run_id[:digits]}  {when(run)}  {run.name} · {summary(run)}" for run in runs]


def described_run(run: RunRecord) -> str:
    """A run's name, data, validation AUROC and the first digits of its id."""
    return f"{run.name} · {summary(run)} · {run.run_id[:SHOWN_DIGITS]}"


def summary(run: RunRecord) -> str:
    """A run's data, its validation AUROC and of how many images that is, and its state unless it finished."""
    auroc, images = run.metrics.get(VAL_AUROC), split_number(run, "val_images")
    of = f" of {images:,} images" if images is not None else ""
    measured = f"val AUROC {decimal(auroc)}{of}" if auroc is not None else "no val AUROC"
    parts = [run.tags.get("data"), measured, None if run.status == "FINISHED" else state_of(run)]
    return " · ".join(part for part in parts if part)


def when(run: RunRecord) -> str:
    """When a run began, in local time to the minute."""
    return f"{datetime.fromtimestamp(run.started_ms / 1000):%Y-%m-%d %H:%M}"
