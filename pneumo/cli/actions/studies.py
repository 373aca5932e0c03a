"""`pneumo study` without a name: the studies of a database, as a table in the terminal."""

import shlex
from dataclasses import asdict
from typing import Any

from pneumo.display.address import shown
from pneumo.display.console import Terminal
from pneumo.display.format import when
from pneumo.sweep import labels
from pneumo.sweep.listing import ListedStudy, studies

COLUMNS = ("study", "when", "state", "best", "objective", "see it with")


def list_studies(url: str) -> dict[str, Any]:
    """Prints the studies, the latest first, and returns them. InputError: the address cannot be used."""
    terminal = Terminal()
    with terminal.waiting("reading the studies"):
        found = studies(url)
    if found:
        terminal.table(COLUMNS, [cells(study) for study in found])
    else:
        terminal.line(f"There is no study in {shown(url)}")
    return {"storage": shown(url), "studies": [as_json(study) for study in found]}


def cells(study: ListedStudy) -> list[str]:
    return [
        study.name,
        when(study.started) if study.started else "-",
        study.state,
        "-" if study.best is None else labels.number(study.best),
        ", ".join(study.objective) or "-",
        command(study),
    ]


def as_json(study: ListedStudy) -> dict[str, Any]:
    started = study.started.isoformat() if study.started else None
    return {**asdict(study), "started": started, "command": command(study)}


def command(study: ListedStudy) -> str:
    """What shows the results of the study."""
    return f"pneumo study {shlex.quote(study.name)}"
