"""The results of a study once its last trial has ended: on the terminal, in result.yaml, and in MLflow."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from pneumo.data.atomic import atomic_path
from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.format import decimal, duration
from pneumo.errors import InputError
from pneumo.runs import query, tracking
from pneumo.runs.mlflow_pages import DESCRIPTION, run_path
from pneumo.sweep import attributes, labels, private_api
from pneumo.sweep.objective import logged_name
from pneumo.sweep.pages import mlflow_view, page, static_plots
from pneumo.sweep.pages.command import command
from pneumo.sweep.pages.dashboard import write_notes
from pneumo.sweep.pages.importance import importance
from pneumo.sweep.storage import COUNTED, StudyStorage
from pneumo.sweep.summary import best_first, saved_seconds

RESULT = "result.yaml"
NOTE_LENGTH = 4000  # characters that MLflow shows of a run's description


def print_results(study: optuna.Study, stopped: str, terminal: Terminal) -> None:
    """The last lines of a sweep; `stopped` is why it ended early, empty if all trials are done."""
    trials = study.get_trials(deepcopy=False)
    best = best_first(study)
    name, is_design = study.study_name, study.user_attrs.get(attributes.DESIGN) is not None
    terminal.line()
    if stopped:
        terminal.warn(f"stopped   {stopped}")
    if best and not is_design:
        value = f"{', '.join(study.user_attrs[attributes.OBJECTIVE])} {labels.value(best[0])}"
        gain = gain_on_given(trials, best[0])
        terminal.say("best", f"#{best[0].number}: {labels.parameters(best[0].params)}: {value}{gain}")
    seconds = saved_seconds([t for t in trials if t.state == TrialState.PRUNED])
    saved = f"; pruning saved {duration(seconds)}" if seconds >= 1 else ""
    terminal.say("trials", labels.counts(trials) + saved)
    if shares := importance(study):
        terminal.say("mattered", ", ".join(f"{labels.name(n)} {share:.0%}" for n, share in shares.items()))
    confirm = f" · pneumo confirm {name}" if best and not is_design else ""
    terminal.say("next", f"pneumo study {name}{confirm} · mlflow ui")


def gain_on_given(trials: Sequence[FrozenTrial], best: FrozenTrial) -> str:
    """E.g. ` (+.040 on #0's)`: by how much the best trial is better than trial 0, if that was enqueued."""
    first = trials[0]
    is_given = private_api.fixed_params(first) is not None
    if first.state != TrialState.COMPLETE or not is_given or first.number == best.number:
        return ""
    return f" (+{decimal(best.values[0] - first.values[0])} on #0's)"


def save(storage: StudyStorage, stopped: str, folder: Path) -> None:
    """Writes result.yaml into the study's folder; logs to the parent run unless it has these trials already.
    A process that was killed while it logged them has left the parent run open."""
    study = storage.study
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(result(study, stopped), sort_keys=False)
    with atomic_path(folder / RESULT) as beside:
        beside.write_text(text)
    is_open = query.find_run(study.user_attrs[attributes.PARENT_RUN]).info.status == "RUNNING"
    with storage.lock():
        n_ended = len(storage.trials(*COUNTED, TrialState.FAIL))
        if study.user_attrs.get(attributes.SAVED_TRIALS) == n_ended and not is_open:
            return
        study.set_user_attr(attributes.SAVED_TRIALS, n_ended)
    log_to_parent_run(storage, stopped)


def result(study: optuna.Study, stopped: str) -> dict[str, Any]:
    """The content of result.yaml."""
    trials, best = study.get_trials(deepcopy=False), best_first(study)
    states = {word: sum(t.state == state for t in trials) for state, word in labels.STATE.items()}
    objective = study.user_attrs[attributes.OBJECTIVE]
    content: dict[str, Any] = {"study": study.study_name, "objective": objective}
    if best:
        values = best[0].values
        content |= {
            "best_trial": best[0].number,
            "best_params": best[0].params,
            "best_value": values[0] if len(values) == 1 else values,
            "best_run": best[0].user_attrs.get(attributes.RUN_ID),
            "best_overrides": best[0].user_attrs.get(attributes.OVERRIDES),
        }
    content |= {"n_trials": study.user_attrs[attributes.N_TRIALS], **states}
    return content | {"stopped": stopped or "all trials are done"}


def log_to_parent_run(storage: StudyStorage, stopped: str) -> None:
    """Best values, plots and pages; the run is FINISHED if all trials are done, else KILLED."""
    study = storage.study
    parent = study.user_attrs[attributes.PARENT_RUN]
    best = best_first(study)
    experiment_id = query.find_run(parent).info.experiment_id
    address = partial(tracking.run_url, experiment_id)
    sections = page.sections(study, address)
    for caption, image in static_plots.of_study(study):
        tracking.log_bytes(parent, image, f"plots/{caption.lower().replace(' ', '-')}.png")
    write_notes(storage, address)
    text = pages.markdown(sections)
    tracking.log_text(parent, text, "study.md")
    tracking.log_text(parent, pages.html(sections), "study.html")
    tracking.log_text(parent, yaml.safe_dump(result(study, stopped), sort_keys=False), RESULT)
    note = f"{mlflow_view.links(study, experiment_id)}\n\n"  # first: MLflow covers what is below three lines
    if best and (run_id := tracking.known_run(best[0].user_attrs[attributes.RUN_ID])):
        names = [logged_name(name) for name in study.user_attrs[attributes.OBJECTIVE]]
        tracking.log_run(parent, dict(zip(names, best[0].values, strict=True)))
        tracking.tag_run(parent, best_trial=best[0].number, best_run=run_id)
        path = run_path(query.find_run(run_id).info.experiment_id, run_id)
        link = f"[{study.study_name}-{best[0].number}](#{path})"
        history = mlflow_view.picture(parent, "plots/history.png", "History")
        note = f"Best: {link} · {note}`{command(study, best[0])}`\n\n{history}\n\n"
    tags = {DESCRIPTION: note + text[:NOTE_LENGTH]}
    tracking.tag_run(parent, state="stopped" if stopped else "complete", **tags)
    tracking.end_run(parent, "KILLED" if stopped else "FINISHED")


def plot_best(study: optuna.Study, terminal: Terminal) -> None:
    """Logs the plots of the best trial's run, which the runs of other trials do not have."""
    best = best_first(study)
    if not best or study.user_attrs.get(attributes.DESIGN):
        return
    from pneumo.runs.restore import restore

    run_id = best[0].user_attrs[attributes.RUN_ID]
    try:
        if query.has_file(query.find_run(run_id).info.run_id, "pictures"):
            return
        with terminal.waiting("plots of the best trial"):
            restore(run_id).illustrate()
    except InputError as error:
        terminal.warn(f"The best trial has no plots: {error}")
