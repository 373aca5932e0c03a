"""`pneumo study NAME`: a study's answers, on the terminal, in files, and in its MLflow run."""

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.errors import InputError
from pneumo.runs import tracking
from pneumo.sweep import plots
from pneumo.sweep.folders import folder_of
from pneumo.sweep.storage import open_study
from pneumo.sweep.summary import summary


def answer(url: str, name: str) -> None:
    """InputError: no such study. What cannot be kept in MLflow is kept in files all the same."""
    study = open_study(url, name, directions=None).study
    terminal = Terminal()
    sections = summary(study)
    pages.print_sections(sections, terminal)
    folder = folder_of(study)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = dict(plots.of_study(study))
    texts = {"study.md": pages.markdown(sections), "study.html": pages.html(sections, metrics)}
    for file, text in texts.items():
        (folder / file).write_text(text)
    terminal.say("written", f"{folder / 'study.md'} and {folder / 'study.html'}")
    try:
        tracking.connect()
        for file, text in texts.items():
            tracking.log_text(study.user_attrs["parent_run"], text, file)
    except (InputError, KeyError) as error:
        terminal.warn(f"not in MLflow: {error}")
