"""The page of a study: its best setting as a command, pictures that a person takes in at once, and the
numbers folded below them."""

from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from pneumo.display.format import duration
from pneumo.display.pages import Section
from pneumo.sweep import attributes, labels
from pneumo.sweep.pages import charts, surface_page
from pneumo.sweep.pages.command import command_line, command_words, missing
from pneumo.sweep.summary import Address, best_first, run_cell, summary

ALL_TRIALS = "All trials"


def sections(study: optuna.Study, address: Address | None = None) -> list[Section]:
    """The sections of the page; trials link to their runs where `address` is given. A design's summary has
    its charts already."""
    first, *others = summary(study, address=address)
    if study.user_attrs.get(attributes.DESIGN):
        return [first, *others]
    if best := best_first(study):
        words = command_words(study, best[0])
        text = [*first.text, f"Best: {best_text(study, best[0])}", *missing(best[0], words)]
        first = replace(first, text=text, command=command_line(words))
    drawn = list(charts.of_study(study))
    course, rest = drawn[:1], drawn[1:]
    folded = [replace(section, folded=True) for section in [*others, all_trials(study, address)]]
    return [first, *course, *surface_page.sections(study), *rest, *folded]


def best_text(study: optuna.Study, best: FrozenTrial) -> str:
    objective = ", ".join(study.user_attrs.get(attributes.OBJECTIVE, ["objective"]))
    return f"#{best.number}, {labels.parameters(best.params)}: {objective} {labels.value(best)}"


def all_trials(study: optuna.Study, address: Address | None) -> Section:
    """A row for each trial, in the order of their numbers."""
    rows = [
        [
            f"#{trial.number}",
            labels.parameters(trial.params),
            labels.outcome(trial) if trial.state.is_finished() else trial.state.name.lower(),
            duration(labels.seconds(trial)),
            run_cell(trial, address),
        ]
        for trial in study.get_trials(deepcopy=False)
    ]
    return Section(ALL_TRIALS, [], ["trial", "parameters", "result", "time", "run"], rows)
