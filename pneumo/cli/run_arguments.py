"""Which runs the words of a verb name, and the line that says so."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo.cli.app import SELECTORS, WrongUsageError
from pneumo.display.console import Terminal
from pneumo.runs.run_name import BEST, WAYS, check_run_name, is_best

if TYPE_CHECKING:
    from pneumo.runs.query import RunRecord


def runs_and_overrides(words: Sequence[str], as_json: bool) -> tuple[list[str], list[str]]:
    """The ids of the runs that the words name, each said in a line, and the overrides of data. With `best`,
    study=NAME restricts the runs that it is among, and so does data=NAME where they are of several data sets;
    data=NAME alone that is the data of the best run then names no other images. WrongUsageError: no run, or
    another word with an =. InputError: no run has such a name."""
    names = [word for word in words if "=" not in word]
    overrides = [word for word in words if key_of(word).split(".")[0] == "data"]
    among = dict(word.split("=", 1) for word in words if key_of(word) == "study")
    if others := [word for word in words if "=" in word and key_of(word).split(".")[0] not in SELECTORS]:
        raise WrongUsageError(f"{others[0]}: only data=NAME, data.KEY=VALUE and study=NAME can be given here")
    if not names:
        raise WrongUsageError(f"Missing argument 'RUN': {WAYS}.")
    if among and not any(map(is_best, names)):
        raise WrongUsageError(f"study={among['study']} says which runs best is among: there is no best here")
    data = next((word.split("=", 1)[1] for word in overrides if key_of(word) == "data"), None)
    runs = find_runs(names, among, data, as_json)
    if BEST in names and len(overrides) == 1 and all(run.tags.get("data") == data for run in runs):
        overrides = []
    return [run.run_id for run in runs], overrides


def run_among(name: str, words: Sequence[str], as_json: bool = False) -> tuple[str, list[str]]:
    """The id of the run of this name, said in a line, and the words that do not restrict which runs `best` is
    among, as data=NAME and study=NAME do unless there is a file of that name. InputError: no run has such a
    name."""
    chosen = {word: word.split("=", 1) for word in words if key_of(word) in SELECTORS}
    among = {key: value for word, (key, value) in chosen.items() if not Path(word).exists()}
    if among and not is_best(name):
        key, value = next(iter(among.items()))
        raise WrongUsageError(f"{key}={value} says which runs best is among: the run here is {name}")
    rest = [word for word in words if word not in chosen or Path(word).exists()]
    return find_runs([name], among, None, as_json)[0].run_id, rest


def only_run(name: str, words: Sequence[str] | None, as_json: bool = False) -> str:
    """As `run_among`, for a verb that takes no other words. WrongUsageError: there are some."""
    run_id, rest = run_among(name, words or (), as_json)
    if rest:
        raise WrongUsageError(f"{rest[0]}: only one run and data=NAME or study=NAME can be given here")
    return run_id


def find_runs(
    names: Sequence[str], among: Mapping[str, str], where_several: str | None, as_json: bool
) -> "list[RunRecord]":
    """See `named_run`. Each run is said in a line, on stderr where stdout is for JSON."""
    for name in names:
        check_run_name(name)
    from pneumo.runs import tracking
    from pneumo.runs.named_run import described_run, named_run

    tracking.connect()
    runs = [
        named_run(name, among if is_best(name) else None, where_several if name == BEST else None)
        for name in names
    ]
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        for run in runs:
            Terminal().say("run", described_run(run))
    return runs


def key_of(word: str) -> str:
    """The key of an override; empty of another word."""
    return word.split("=", 1)[0].lstrip("+~") if "=" in word else ""
