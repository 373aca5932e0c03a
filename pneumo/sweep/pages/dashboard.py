"""Notes for optuna-dashboard, if that is installed: the best setting of a study, and the MLflow run of each
trial."""

import warnings
from importlib.util import find_spec

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, Trial

from pneumo.sweep import labels
from pneumo.sweep.attributes import RUN_ID
from pneumo.sweep.pages import page
from pneumo.sweep.pages.command import command
from pneumo.sweep.storage import StudyStorage
from pneumo.sweep.summary import Address, best_first


def name_objectives(study: optuna.Study, objectives: list[str]) -> None:
    """Names the objectives in the study, for the dashboard and for optuna.visualization."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(objectives)


def write_notes(storage: StudyStorage, address: Address) -> None:
    """Writes the notes that have changed; `address` is where a run's page is in MLflow."""
    if find_spec("optuna_dashboard") is None:
        return
    from optuna_dashboard import get_note, save_note

    study = storage.study
    notes: list[tuple[optuna.Study | Trial, str]] = []
    if best := best_first(study):
        text = f"Best: {page.best_text(study, best[0])}\n\n    {command(study, best[0])}"
        notes.append((study, f"{text}\n\n{link_to_run(best[0], address)}"))
    for trial in storage.trials():
        text = f"{labels.parameters(trial.params)}: {labels.outcome(trial)}"
        if trial.state.is_finished() and (link := link_to_run(trial, address)):
            notes.append((Trial(study, storage.trial_id(trial.number)), f"{text}\n\n{link}"))
    for of, text in notes:
        if get_note(of) != text:
            save_note(of, text)


def link_to_run(trial: FrozenTrial, address: Address) -> str:
    """Markdown; empty where the trial has no run."""
    run_id = trial.user_attrs.get(RUN_ID)
    return f"[#{trial.number} in MLflow]({address(run_id)})" if run_id else ""
