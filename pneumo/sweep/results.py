"""What is said and kept when a study's work is over: on the terminal, in a file, in the parent's run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.format import decimal, duration
from pneumo.errors import InputError
from pneumo.runs import query, tracking
from pneumo.sweep import labels, plots
from pneumo.sweep.storage import COUNTED, StudyStorage
from pneumo.sweep.summary import best_first, importance, saved_seconds, summary

RESULT = "result.yaml"


def say(study: optuna.Study, why: str, terminal: Terminal) -> None:
    """The last lines of a sweep."""
    trials = study.get_trials(deepcopy=False)
    best = best_first(study, trials)
    terminal.line()
    if why:
        terminal.warn(f"stopped   {why}")
    name, designed = study.study_name, study.user_attrs.get("design") is not None
    if best and not designed:
        value = f"{', '.join(study.user_attrs['objective'])} {labels.value(best[0])}"
        gain = over_baseline(trials, best[0])
        terminal.say("best", f"#{best[0].number}: {labels.parameters(best[0].params)}: {value}{gain}")
    saved = saved_seconds([t for t in trials if t.state == TrialState.PRUNED])
    terminal.say(
        "trials", labels.counts(trials) + (f"; pruning saved {duration(saved)}" if saved >= 1 else "")
    )
    if not designed and (shares := importance(study)):
        terminal.say("mattered", ", ".join(f"{labels.name(n)} {share:.0%}" for n, share in shares.items()))
    confirm = "" if designed else f" · pneumo confirm {name}"
    terminal.say("next", f"pneumo study {name}{confirm} · mlflow ui")


def over_baseline(trials: Sequence[FrozenTrial], best: FrozenTrial) -> str:
    """(+.40 on trial 0's) where trial 0 was given, not drawn, and is not the best itself"""
    first = trials[0]
    if (
        first.state != TrialState.COMPLETE
        or "fixed_params" not in first.system_attrs
        or first.number == best.number
    ):
        return ""
    return f" (+{decimal(best.values[0] - first.values[0])} on #0's)"


def keep(ledger: StudyStorage, why: str, folder: Path) -> None:
    """The result file, always; in MLflow the parent's run once it is as far as this."""
    study = ledger.study
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{RESULT}"
    beside.write_text(yaml.safe_dump(result(study, why), sort_keys=False))
    beside.replace(folder / RESULT)
    with ledger.turn():
        ended = len(ledger.trials(*COUNTED, TrialState.FAIL))
        if study.user_attrs.get("kept") == ended:
            return
        study.set_user_attr("kept", ended)
    into_parent(study, why)


def result(study: optuna.Study, why: str) -> dict[str, Any]:
    trials = study.get_trials(deepcopy=False)
    best = best_first(study, trials)
    states = {word: sum(t.state == state for t in trials) for state, word in labels.STATE.items()}
    found: dict[str, Any] = {"study": study.study_name, "objective": study.user_attrs["objective"]}
    if best:
        found |= {
            "best_trial": best[0].number,
            "best_params": best[0].params,
            "best_value": best[0].values[0] if len(best[0].values) == 1 else best[0].values,
            "best_run": best[0].user_attrs.get("run_id"),
            "best_overrides": best[0].user_attrs.get("overrides"),
        }
    return found | {
        "n_trials": study.user_attrs["n_trials"],
        **states,
        "stopped": why or "all trials are done",
    }


def into_parent(study: optuna.Study, why: str) -> None:
    """Best configuration, plots and pages; the parent is FINISHED where the study is whole."""
    parent = study.user_attrs["parent_run"]
    trials = study.get_trials(deepcopy=False)
    best = best_first(study, trials)
    sections = summary(study)
    metrics = dict(plots.of_study(study))
    for caption, figure in metrics.items():
        tracking.log_figure(parent, figure, f"plots/{caption.lower().replace(' ', '-')}.png")
    tracking.log_text(parent, pages.markdown(sections), "study.md")
    tracking.log_text(parent, pages.html(sections, metrics), "study.html")
    tracking.log_text(parent, yaml.safe_dump(result(study, why), sort_keys=False), "result.yaml")
    note = ""
    if best:
        run_id = best[0].user_attrs["run_id"]
        values = {
            f"best/{name.replace('/', '_')}": value
            for name, value in zip(study.user_attrs["objective"], best[0].values, strict=True)
        }
        tracking.log_run(parent, values)
        tracking.tag_run(parent, best_trial=best[0].number, best_run=run_id)
        overrides = " ".join(best[0].user_attrs.get("overrides", []))
        note = f"Best: [{study.study_name}-{best[0].number}]({query.link(run_id)})\n\n`{overrides}`\n\n"
    tracking.tag_run(
        parent,
        state="stopped" if why else "complete",
        **{"mlflow.note.content": note + pages.markdown(sections)[:4000]},
    )
    tracking.end_run(parent, "KILLED" if why else "FINISHED")


def illustrate_best(study: optuna.Study, terminal: Terminal) -> None:
    """The best trial's run gets the pictures that no other trial has."""
    best = best_first(study, study.get_trials(deepcopy=False))
    if not best or study.user_attrs.get("design"):
        return
    from pneumo.runs.restore import restore

    run_id = best[0].user_attrs["run_id"]
    if query.has_file(run_id, "pictures"):
        return
    try:
        with terminal.waiting("pictures of the best"):
            restore(run_id).illustrate()
    except InputError as error:
        terminal.warn(f"no pictures of the best: {error}")
