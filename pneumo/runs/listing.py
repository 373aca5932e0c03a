"""The training runs in MLflow as rows of a table: filtered, sorted, and what is shown of each."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, Self, get_args

from pneumo.errors import InputError
from pneumo.runs import query
from pneumo.runs.best import VAL_AUROC, obstacles
from pneumo.runs.query import RunRecord, is_process_running, split_number

Sort = Literal["when", "val", "test", "name"]
STATES = {"FINISHED": "finished", "RUNNING": "running", "FAILED": "failed", "KILLED": "stopped"}
NOT_FINISHED = "not finished"  # an obstacle that the state tells too


@dataclass(frozen=True)
class ListedRun:
    """A row: what a run is and what it has reached. What is not known is None."""

    name: str
    run_id: str
    started: datetime
    state: str  # running, finished, failed, stopped, pruned, or died: its process is gone
    marks: str  # why it is no candidate for `best` though it has finished, separated by commas
    data: str | None
    model: str | None
    loss: str | None
    augment: str | None
    optimizer: str | None
    schedule: str | None
    study: str | None
    trial: int | None
    val_auroc: float | None  # of the best epoch
    val_images: int | None
    val_positives: int | None
    test_auroc: float | None
    test_auroc_low: float | None  # of the 95% interval
    test_auroc_high: float | None

    @classmethod
    def of(cls, run: RunRecord) -> Self:
        """The row of a run."""
        tags, metrics, trial = run.tags, run.metrics, run.tags.get("trial")
        return cls(
            name=run.name,
            run_id=run.run_id,
            started=datetime.fromtimestamp(run.started_ms / 1000, UTC),
            state=state_of(run),
            marks=", ".join(word for word in obstacles(run) if word != NOT_FINISHED),
            data=tags.get("data"),
            model=tags.get("model"),
            loss=tags.get("loss"),
            augment=tags.get("augment"),
            optimizer=tags.get("optimizer"),
            schedule=tags.get("schedule"),
            study=tags.get("study"),
            trial=int(trial) if trial is not None else None,
            val_auroc=metrics.get(VAL_AUROC),
            val_images=split_number(run, "val_images"),
            val_positives=split_number(run, "val_positives"),
            test_auroc=metrics.get("test/auroc"),
            test_auroc_low=metrics.get("test/auroc_low"),
            test_auroc_high=metrics.get("test/auroc_high"),
        )


COLUMNS = tuple(field.name for field in fields(ListedRun))


@dataclass(frozen=True)
class Listing:
    """The rows that were asked for, and how many trials of studies are not among them."""

    rows: Sequence[ListedRun]
    trials_left_out: int


def listing(filters: Sequence[str] = (), sort: Sort = "when", trials: bool = False) -> Listing:
    """The training runs that satisfy all `filters`: KEY=VALUE, where KEY is a column, a tag or a parameter
    and VALUE may contain *, or a part of the name. The latest come first, or those of the highest AUROC, or
    they are sorted by their names. Trials of studies are left out unless `trials`, or a filter is of the name
    or the study. InputError: no run has such a key, or `sort` is another word."""
    found = [(run, ListedRun.of(run)) for run in query.trainings()]
    for word in filters:
        refuse_unknown(word, found)
        found = [(run, row) for run, row in found if satisfies(run, row, word)]
    about_trials = any("=" not in word or word.startswith(("study", "trial", "name")) for word in filters)
    rows = [row for _, row in found]
    kept = rows if trials or about_trials else [row for row in rows if row.trial is None]
    return Listing(in_order(kept, sort), len(rows) - len(kept))


def in_order(rows: Sequence[ListedRun], sort: Sort) -> list[ListedRun]:
    """The rows, sorted; those without the value come last."""
    if sort not in get_args(Sort):
        raise InputError(f"sort must be one of {', '.join(get_args(Sort))}, got {sort!r}")
    if sort == "name":
        return sorted(rows, key=lambda row: row.name)
    if sort == "when":
        return sorted(rows, key=lambda row: row.started, reverse=True)

    def auroc(row: ListedRun) -> float:
        value = row.val_auroc if sort == "val" else row.test_auroc
        return -1 if value is None else value

    return sorted(rows, key=auroc, reverse=True)


def satisfies(run: RunRecord, row: ListedRun, word: str) -> bool:
    """Whether a run satisfies a filter of `listing`."""
    key, equals, wanted = word.partition("=")
    if not equals:
        return fnmatchcase(row.name.lower(), f"*{word.lower()}*") or run.run_id.startswith(word.lower())
    return any(is_like(value, wanted) for value in values_of(run, row, key))


def values_of(run: RunRecord, row: ListedRun, key: str) -> Iterator[str]:
    """The values of a column, a tag or a parameter of this name."""
    if key in COLUMNS and (value := getattr(row, key)) is not None:
        yield from str(value).split(", ") if key == "marks" else [str(value)]
    for logged in (run.tags, run.parameters):
        if key in logged:
            yield logged[key]


def is_like(value: str, wanted: str) -> bool:
    """Whether a value is the wanted one, as a text in which * stands for anything, or as a number."""
    with suppress(ValueError):
        return float(value) == float(wanted)
    return fnmatchcase(value.lower(), wanted.lower())


def refuse_unknown(word: str, found: Sequence[tuple[RunRecord, ListedRun]]) -> None:
    """InputError: a filter's key is neither a column nor a tag or a parameter of any run."""
    key, equals, _ = word.partition("=")
    known = {*COLUMNS, *(name for run, _ in found for name in (*run.tags, *run.parameters))}
    if equals and found and key not in known:
        like = get_close_matches(key, sorted(known), n=3)
        hint = f"Did you mean {' or '.join(like)}?" if like else f"Columns are {', '.join(COLUMNS)}"
        raise InputError(f"{word}: no run has {key}. {hint}")


def state_of(run: RunRecord) -> str:
    """The state of a run; see ListedRun."""
    if run.status == "RUNNING" and not is_process_running(run.tags.get("process", "?:0:0")):
        return "died"
    if run.status == "KILLED" and "pruned" in run.tags:
        return "pruned"
    return STATES.get(run.status, run.status.lower())
