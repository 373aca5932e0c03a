"""`pneumo study NAME`: the results of a study, on the terminal, in files, and in its MLflow run."""

from functools import partial
from typing import TYPE_CHECKING, Any

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.pages import Section
from pneumo.errors import InputError
from pneumo.runs import query, tracking
from pneumo.runs.run_name import check_runs_are_here
from pneumo.sweep.attributes import DESIGN, PARENT_RUN
from pneumo.sweep.folders import folder_of
from pneumo.sweep.pages import page
from pneumo.sweep.pages.dashboard import write_notes
from pneumo.sweep.pages.importance import importance
from pneumo.sweep.results import result
from pneumo.sweep.storage import open_study

if TYPE_CHECKING:
    import optuna
    from mlflow.entities import Run


def show_study(url: str, name: str) -> dict[str, Any]:
    """Prints the results, writes study.md and study.html, and returns the results. InputError: no such study.
    The files are written even if MLflow cannot be reached."""
    storage = open_study(url, name, directions=None)
    study = storage.study
    terminal = Terminal()
    parent, missing = parent_run(study)
    address = partial(tracking.run_url, parent.info.experiment_id) if parent else None
    sections = page.sections(study, address)
    is_design = study.user_attrs.get(DESIGN) is not None
    pages.print_sections([each for each in sections if is_printed(each, is_design)], terminal)
    folder = folder_of(study)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"study.md": pages.markdown(sections), "study.html": pages.html(sections)}
    for file, text in texts.items():
        (folder / file).write_text(text)
    terminal.say("written", f"{folder / 'study.md'} and {folder / 'study.html'}")
    try:
        for file, text in texts.items():
            if parent:
                tracking.log_text(parent.info.run_id, text, file)
    except (OSError, tracking.MlflowError) as error:
        missing = str(error).splitlines()[0]
    if address:
        write_notes(storage, address)
    if missing:
        terminal.warn(f"not in MLflow: {missing}")
    metrics = result(study, "")
    del metrics["stopped"]  # why a sweep ended is not known here
    tables = {
        each.title: [list(each.columns), *(list(map(str, row)) for row in each.rows)] for each in sections
    }
    return {**metrics, "importance": importance(study), "tables": tables}


def parent_run(study: "optuna.Study") -> tuple["Run | None", str]:
    """The study's run in MLflow, or why there is none."""
    try:
        check_runs_are_here("the pages of the study are not added to its run in MLflow")
        tracking.connect()
        return query.find_run(study.user_attrs[PARENT_RUN]), ""
    except (InputError, KeyError, OSError, tracking.MlflowError) as error:
        return None, str(error).splitlines()[0]


def is_printed(section: Section, is_design: bool) -> bool:
    """Whether a section goes to the terminal: it has more than plots, and is neither the list of all trials
    nor one of a design's wide tables."""
    is_long = section.title == page.ALL_TRIALS or (is_design and section.folded)
    return not is_long and bool(section.text or section.rows)
