"""What the terminal prints of a study that begins or is interrupted: its plan and state, or some samples."""

from pathlib import Path

import optuna

from pneumo.display.address import shown
from pneumo.display.console import Terminal
from pneumo.runs import tracking
from pneumo.runs.overrides import run_overrides
from pneumo.sweep import attributes, labels
from pneumo.sweep.design.ablation import AblationDesign
from pneumo.sweep.plan import StudyPlan

N_SAMPLES = 5


def print_study(study: optuna.Study, plan: StudyPlan, left: int, n_workers: int, terminal: Terminal) -> None:
    """`left`: the number of trials still to be done; `n_workers`: of this command."""
    settings, search = plan.settings, plan.search
    if is_design := isinstance(search, AblationDesign):
        text = f"{len(search.arms)} arms, {search.seeds} seeds each · designed"
    else:
        sampler, pruner = labels.class_name(settings.make_sampler(0)), labels.class_name(study.pruner)
        text = f"{labels.names(search.describe())} · {sampler}, {pruner} pruner"
    if len(settings.objective) > 1:
        text += " (several objectives are not pruned)"
    terminal.say("study", f"{settings.study} on {plan.base.choices['data']}: {text}")
    terminal.say("storage", shown(settings.url.removeprefix(f"sqlite:///{Path.cwd()}/")))
    for note in search.notes:
        terminal.warn(f"          {note}")
    n_trials = study.user_attrs[attributes.N_TRIALS]
    done = f"{n_trials - left} of {n_trials} done"
    if left > 0:
        together = f" · {n_workers} workers" if n_workers > 1 else ""
        terminal.say("trials", f"{done}{together}\n")
    else:
        more = "" if is_design else "; a larger n_trials for more"
        terminal.say("trials", f"{done}. Nothing to do{more}.")


def print_interrupted(study: optuna.Study, plan: StudyPlan, left: int, terminal: Terminal) -> None:
    """What is kept of a study that was interrupted, and how it goes on."""
    terminal.say("stopped", f"{plan.n_trials - left} of {plan.n_trials} trials are done and stored")
    go_on = "the same command continues, each stopped trial from its last epoch"
    terminal.say("next", f"{go_on} · pneumo study {study.study_name}")


def print_lost_runs(parent: str, terminal: Terminal) -> None:
    """That MLflow's store was emptied or replaced since the study began."""
    terminal.warn(
        f"lost      MLflow at {tracking.store_name()} has no run {parent}, which the study began with:"
    )
    terminal.warn(
        "          what is done stays in the study without its runs, and a new run is above new ones"
    )


def print_samples(plan: StudyPlan, terminal: Terminal) -> None:
    """The search space, and samples of it: the given trials first, then what the sampler draws. A study draws
    others, as its sampler is seeded anew for each trial."""
    search = plan.search
    for name, description in search.describe().items():
        terminal.line(f"  {name:<26}{description}")
    for note in search.notes:
        terminal.warn(f"  {note}")
    terminal.line()
    study = optuna.create_study(directions=plan.settings.directions, sampler=plan.settings.make_sampler(0))
    for values in search.queue[:N_SAMPLES]:
        study.enqueue_trial(dict(values))
    for number in range(min(N_SAMPLES, plan.n_trials)):
        values = search.suggest(study.ask())
        terminal.line(f" #{number}  {labels.parameters(values)}")
        terminal.line(f"     {' '.join(run_overrides(search.overrides(values)))}")
    terminal.line()
    terminal.line("Every choice and both ends of every range compose.")
    terminal.line(f"Nothing was run; without dry_run it would be {plan.n_trials} trials.")
