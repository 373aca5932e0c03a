"""What is said before a study begins: what it is, or what it would try."""

from pathlib import Path

import optuna

from pneumo.display.address import shown
from pneumo.display.console import Terminal
from pneumo.runs import config
from pneumo.sweep import labels
from pneumo.sweep.ablation import AblationDesign
from pneumo.sweep.search_space import SearchSpace
from pneumo.sweep.settings import StudySettings

SAMPLES = 5


def say(
    study: optuna.Study,
    plan: SearchSpace | AblationDesign,
    settings: StudySettings,
    data: str,
    left: int,
    terminal: Terminal,
) -> None:
    if isinstance(plan, AblationDesign):
        what = f"{len(plan.arms)} arms, {plan.seeds} seeds each · designed"
    else:
        sampler, pruner = labels.class_name(settings.chosen_sampler(0)), labels.class_name(study.pruner)
        what = f"{labels.names(plan.described())} · {sampler}, {pruner} pruner"
    if len(settings.objective) > 1:
        what += " (several objectives are not pruned)"
    terminal.say("study", f"{settings.study} on {data}: {what}")
    terminal.say("storage", shown(settings.url.removeprefix(f"sqlite:///{Path.cwd()}/")))
    for note in plan.leaves_out:
        terminal.warn(f"          {note}")
    n_trials = study.user_attrs["n_trials"]
    done = f"{n_trials - left} of {n_trials} done"
    if left <= 0:
        done += ". Nothing to do" + (
            "." if isinstance(plan, AblationDesign) else "; a larger n_trials for more."
        )
    terminal.say("trials", done)
    if left > 0:
        terminal.line()


def say_samples(
    plan: SearchSpace | AblationDesign, settings: StudySettings, n_trials: int, terminal: Terminal
) -> None:
    """The space, and what the sampler would draw first."""
    for name, described in plan.described().items():
        terminal.line(f"  {name:<26}{described}")
    terminal.line()
    sampled = optuna.create_study(directions=settings.directions, sampler=settings.chosen_sampler(0))
    for values in plan.queue[:SAMPLES]:
        sampled.enqueue_trial(values)
    for number in range(min(SAMPLES, n_trials)):
        values = plan.suggest(sampled.ask())
        terminal.line(f" #{number}  {labels.parameters(values)}")
        terminal.line(f"     {' '.join(config.typed(plan.overrides(values)))}")
    terminal.line()
    terminal.line("Every choice and both ends of every range compose.")
    terminal.line(f"Nothing was run; without dry_run it would be {n_trials} trials.")
