"""`pneumo report`: one page with the report's tables, the runs that reproduce it, and a model card."""

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
from pneumo.report2024 import checklist, comparison, comparison_charts, crop_loss, curves, decoded, model_card
from pneumo.report2024.collect import CollectedRuns, collect_runs
from pneumo.report2024.rescored import rescore
from pneumo.runs import query, tracking
from pneumo.sweep.attributes import PARENT_RUN
from pneumo.sweep.storage import open_study
from pneumo.sweep.summary import BEST_TRIALS, summary

TITLE = "Pneumothorax in chest radiographs: a report of 2024 and its reproduction"


def report(out: str, study: str | None, url: str | None) -> dict[str, Any]:
    """Writes OUT.html and OUT.md and returns their main results; `url` is the database of `study`.
    InputError: there is no such folder or study, or MLflow cannot be reached."""
    files = {suffix: Path(f"{out}.{suffix}") for suffix in ("html", "md")}
    folder = files["html"].parent
    if not folder.is_dir():
        raise InputError(f"--out {out}: there is no folder {folder}")
    if not out or out.endswith("/"):
        raise InputError(f"--out {out} must be a file's name, without .html")
    terminal = Terminal()
    tracking.connect()
    try:
        of_study = study_sections(url, study) if url and study else []
        collected = collect_runs(query.runs_of_experiments())
        sections = report_sections(collected, of_study, terminal)
    except tracking.MlflowError as error:
        raise tracking.unreachable(error) from None
    texts = {"html": pages.html(pages.pictures_first(sections)), "md": pages.markdown(sections)}
    for suffix, path in files.items():
        with atomic_path(path) as beside:
            beside.write_text(texts[suffix])
    runs, missing, best = collected.runs, collected.missing, collected.recommended
    terminal.say("runs", f"{len(runs)} of {len(runs) + len(missing)} in {tracking.store_name()}")
    for command in missing:
        terminal.say("not yet", command)
    terminal.say("written", " and ".join(map(str, files.values())))
    return {
        "headline": sections[0].text,
        "runs": [run.run_id for run in runs],
        "missing": missing,
        "recommended": {"run_id": best.run_id, "metrics": best.metrics} if best else None,
        "files": [str(path) for path in files.values()],
    }


def report_sections(
    collected: CollectedRuns, of_study: Sequence[Section], terminal: Terminal
) -> list[Section]:
    """All sections of the page in their order. `of_study` are those of a study, if one was requested."""
    tables = decoded.decode_tables()
    rescored = {}
    with terminal.progress("runs") as advance:
        for number, run in enumerate(collected.runs):
            advance(number, len(collected.runs))
            rescored[run.run_id] = rescore(run)
    with terminal.progress("data") as advance:
        crop = crop_loss.section(collected.runs, advance)
    best = collected.recommended
    of_best = rescored[best.run_id] if best else None
    written = f"Written on {date.today()} from the runs in MLflow at {tracking.store_name()}. {link_note()}"
    return [
        Section(
            TITLE,
            [written, *comparison.headline(collected, rescored, tables)],
            plots=comparison_charts.overview(collected, rescored, tables),
        ),
        comparison_charts.confusion_section(collected, rescored, tables),
        decoded.table_section(),
        comparison.metrics_section(collected, rescored, tables),
        decoded.counts_section(tables),
        decoded.hard_auroc_section(tables),
        decoded.alternatives_section(tables),
        curves.section(collected),
        crop,
        comparison.splits_section(collected, tables),
        *of_study,
        comparison.time_section(collected),
        comparison.settings_section(collected),
        model_card.section(best, of_best),
        checklist.section(best, of_best),
        comparison.missing_section(collected),
    ]


def link_note() -> str:
    if tracking.uses_server():
        return "The name of a run links to its page there."
    return f"The name of a run links to its page while mlflow ui runs here ({tracking.LOCAL_PAGES})."


def study_sections(url: str, name: str) -> list[Section]:
    """The summary of a study without the list of its best trials; they lie under its own run."""
    study = open_study(url, name, directions=None).study
    first, *rest = (section for section in summary(study) if section.title != BEST_TRIALS)
    if (run_id := study.user_attrs.get(PARENT_RUN)) is None:
        return [first, *rest]
    run = query.run_record(query.find_run(run_id))
    return [replace(first, columns=["parent run of its trials"], rows=[[Link(run.name, run.address)]]), *rest]
