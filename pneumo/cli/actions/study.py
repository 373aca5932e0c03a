"""`pneumo study NAME`: the results of a study, on the terminal, in files, and in its MLflow run."""

from typing import Any

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.errors import InputError
from pneumo.runs import query, tracking
from pneumo.runs.run_name import check_runs_are_here
from pneumo.sweep import plots
from pneumo.sweep.attributes import PARENT_RUN
from pneumo.sweep.folders import folder_of
from pneumo.sweep.results import result
from pneumo.sweep.storage import open_study
from pneumo.sweep.summary import importance, summary


def show_study(url: str, name: str) -> dict[str, Any]:
    """Prints the results, writes study.md and study.html, and returns the results. InputError: no such study.
    The files are written even if MLflow cannot be reached."""
    study = open_study(url, name, directions=None).study
    terminal = Terminal()
    sections = summary(study)
    pages.print_sections(sections, terminal)
    folder = folder_of(study)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "study.md": pages.markdown(sections),
        "study.html": pages.html([*sections, *pages.plot_sections(dict(plots.of_study(study)))]),
    }
    for file, text in texts.items():
        (folder / file).write_text(text)
    terminal.say("written", f"{folder / 'study.md'} and {folder / 'study.html'}")
    try:
        check_runs_are_here("the pages of the study are not added to its run in MLflow")
        tracking.connect()
        parent = query.find_run(study.user_attrs[PARENT_RUN]).info.run_id
        for file, text in texts.items():
            tracking.log_text(parent, text, file)
    except (InputError, KeyError, OSError, tracking.MlflowError) as error:
        terminal.warn(f"not in MLflow: {str(error).splitlines()[0]}")
    metrics = result(study, "")
    del metrics["stopped"]  # why a sweep ended is not known here
    tables = {
        each.title: [list(each.columns), *(list(map(str, row)) for row in each.rows)] for each in sections
    }
    return {**metrics, "importance": importance(study), "tables": tables}
