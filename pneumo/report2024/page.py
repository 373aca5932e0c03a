"""`pneumo report`: the report, our runs of its names, and what is known of the recommended one, on a page."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pneumo.data.atomic import atomic_path
from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.pages import Link, Section
from pneumo.errors import InputError
from pneumo.report2024 import checklist, comparison, crop_loss, curves, decoded, model_card
from pneumo.report2024.collect import CollectedRuns, collect_runs
from pneumo.report2024.rescored import rescore
from pneumo.runs import query, tracking
from pneumo.sweep.attributes import PARENT_RUN
from pneumo.sweep.storage import open_study
from pneumo.sweep.summary import summary

TITLE = "Pneumothorax in chest X-rays: a 2024 report, and its runs again"


def report(out: str, study: str | None, url: str | None) -> dict[str, Any]:
    """Writes OUT.html and OUT.md, and returns the headline. InputError: no such folder or study, or MLflow
    cannot be reached."""
    files = {suffix: Path(f"{out}.{suffix}") for suffix in ("html", "md")}
    folder = files["html"].parent
    if not folder.is_dir():
        raise InputError(f"--out {out}: there is no folder {folder}")
    if not out or out.endswith("/"):
        raise InputError(f"--out {out} must be a file's name, without .html")
    terminal = Terminal()
    tracking.connect()
    try:
        answers = of_study(url, study) if url and study else []
        found = collect_runs(query.runs_of_experiments())
        sections = written(found, answers, terminal)
    except tracking.MlflowError as error:
        raise tracking.unreachable(error) from None
    texts = {"html": pages.html(sections, {}), "md": pages.markdown(sections)}
    for suffix, path in files.items():
        with atomic_path(path) as beside:
            beside.write_text(texts[suffix])
    terminal.say(
        "runs", f"{len(found.runs)} of {len(found.runs) + len(found.missing)} in {tracking.store_name()}"
    )
    for command in found.missing:
        terminal.say("not yet", command)
    terminal.say("written", " and ".join(map(str, files.values())))
    best = found.recommended
    return {
        "headline": sections[0].text,
        "runs": [run.run_id for run in found.runs],
        "missing": found.missing,
        "recommended": {"run_id": best.run_id, "metrics": best.metrics} if best else None,
        "files": [str(path) for path in files.values()],
    }


def written(found: CollectedRuns, answers: Sequence[Section], terminal: Terminal) -> list[Section]:
    """All sections of the page."""
    reading = decoded.decode_tables()
    measures = {}
    with terminal.progress("runs") as advance:
        for number, run in enumerate(found.runs):
            advance(number, len(found.runs))
            measures[run.run_id] = rescore(run)
    with terminal.progress("data") as advance:
        lesions = crop_loss.section(found.runs, advance)
    best = found.recommended
    one = measures[best.run_id] if best else None
    first = [f"Written on {date.today()} from MLflow at {tracking.store_name()}; {where()}"]
    return [
        Section(TITLE, [*first, *comparison.in_short(found, measures, reading)]),
        decoded.as_printed(),
        comparison.comparison(found, measures, reading),
        decoded.counts(reading),
        decoded.hard_auroc(reading),
        decoded.alternatives(reading),
        curves.section(found),
        lesions,
        comparison.splits(found, reading),
        *answers,
        comparison.hours(found),
        comparison.settings(found),
        model_card.section(best, one),
        checklist.section(best, one.part if one else "", one.said("auroc") if one else ""),
        comparison.commands(found),
    ]


def where() -> str:
    if tracking.uses_server():
        return "the name of a run leads to its page there."
    return f"the name of a run leads to its page while mlflow ui runs here ({tracking.LOCAL_PAGES})."


def of_study(url: str, name: str) -> list[Section]:
    """Its answers without the list of single trials; they lie under its own run."""
    study = open_study(url, name, directions=None).study
    first, *rest, _ = summary(study)
    if (run_id := study.user_attrs.get(PARENT_RUN)) is None:
        return [first, *rest]
    run = query.run_record(query.find_run(run_id))
    return [replace(first, columns=["all its runs lie under"], rows=[[Link(run.name, run.address)]]), *rest]
