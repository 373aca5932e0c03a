"""The report on a study, finished or not, as sections of text and tables; display/pages.py renders them.

A study that samples: its best trials, which parameters mattered, and what pruning saved. A design: the
verdict on each question.
"""

from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import duration
from pneumo.display.pages import Cell, Link, Section
from pneumo.sweep import attributes, labels
from pneumo.sweep.design import page as conclusions_page
from pneumo.sweep.design.ablation import stored_design
from pneumo.sweep.pages.importance import MIN_COMPLETE, distinct, importance, importance_spread

Address = Callable[[str], str]  # id of an MLflow run -> where its page is
N_BEST, BEST_TRIALS = 10, "The ten best"


def summary(
    study: optuna.Study, n_trials: int | None = None, address: Address | None = None
) -> list[Section]:
    """The first section is the state of the study; the last one of a study that samples is its best
    trials, which link to their runs where `address` is given."""
    trials = study.get_trials(deepcopy=False)
    design = stored_design(study)
    sections = [status(study, trials, n_trials or study.user_attrs.get(attributes.N_TRIALS))]
    if design:
        sections += conclusions_page.sections(study, design)
    else:
        sections += [importances(study), pruning(trials)]
    if len(study.directions) > 1:
        sections.append(pareto_front(study))
    return sections if design else [*sections, best_trials(study, address)]


def status(study: optuna.Study, trials: Sequence[FrozenTrial], n_trials: int | None) -> Section:
    done = sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    running = sum(t.state == TrialState.RUNNING for t in trials)
    of = f"{done} of {n_trials} trials done" if n_trials else f"{done} trials done"
    unfinished = n_trials is not None and done < n_trials
    seconds = sum(labels.seconds(t) for t in trials if t.state.is_finished())
    state = "UNFINISHED: " if unfinished else ""
    text = [f"{state}{of}: {labels.counts(trials)}; {duration(seconds)} of training"]
    if running:
        text.append(f"{running} running now")
    return Section(f"Study {study.study_name}", text)


def importances(study: optuna.Study) -> Section:
    title, shares = "What mattered", importance(study)
    if not shares:
        return Section(title, [f"Not known before {MIN_COMPLETE} complete trials."])
    text = "Share of the objective's variance over the complete trials (fANOVA); rough with few trials."
    if not (spread := importance_spread(study)):
        rows = [[labels.name(name), f"{share:.0%}"] for name, share in shares.items()]
        return Section(title, [text], ["parameter", "share"], rows)
    of_halves = {name: f"{low:.0%} to {high:.0%}" for name, (low, high) in spread.items()}
    rows = [[labels.name(name), f"{share:.0%}", of_halves[name]] for name, share in shares.items()]
    return Section(title, [text], ["parameter", "share", "80% of random halves"], rows)


def pruning(trials: Sequence[FrozenTrial]) -> Section:
    title = "What pruning saved"
    pruned = [t for t in trials if t.state == TrialState.PRUNED and is_stopped_early(t)]
    if not pruned:
        return Section(title, ["No trial was pruned."])
    spent = sum(labels.seconds(t) for t in pruned)
    text = (
        f"{len(pruned)} trials were stopped early: {duration(spent)} spent on them, about "
        f"{duration(saved_seconds(pruned))} saved (their own seconds an epoch x the epochs they did not run)."
    )
    return Section(title, [text])


def is_stopped_early(pruned: FrozenTrial) -> bool:
    """False if it ran out of memory, or was pruned after its last epoch, as in older versions."""
    done, known = pruned.last_step or 0, pruned.user_attrs
    return attributes.FAILURE not in known and bool(0 < done < known.get(attributes.EPOCHS, done + 1))


def saved_seconds(pruned: Sequence[FrozenTrial]) -> float:
    """The seconds that those of the pruned trials that were stopped early would have trained longer, at their
    own speed. Too few of a trial that was resumed: the seconds of its last attempt are taken for all its
    epochs."""
    total = 0.0
    for trial in pruned:
        if is_stopped_early(trial) and attributes.DUPLICATE_OF not in trial.user_attrs:
            done = trial.last_step or 0
            left = trial.user_attrs.get(attributes.EPOCHS, done) - done
            total += labels.seconds(trial) / done * left
    return total


def pareto_front(study: optuna.Study) -> Section:
    """The trials of several objectives that no other trial beats in all of them, each result once."""
    front = [trial for trial in study.best_trials if attributes.DUPLICATE_OF not in trial.user_attrs]
    rows = [[f"#{t.number}", labels.parameters(t.params), *labels.each_value(t)] for t in front]
    columns = ["trial", "parameters", *study.user_attrs[attributes.OBJECTIVE]]
    return Section("Not beaten in every objective", [], columns, rows)


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials without duplicates, sorted by the first objective."""
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(distinct(study), key=lambda trial: (sign * trial.values[0], trial.number))


def run_cell(trial: FrozenTrial, address: Address | None) -> Cell:
    """The first digits of the id of a trial's run, a link where there is an address."""
    run_id = trial.user_attrs.get(attributes.RUN_ID, "")
    return Link(run_id[:8], address(run_id)) if run_id and address else run_id[:8]


def best_trials(study: optuna.Study, address: Address | None) -> Section:
    rows: list[list[Cell]] = []
    for t in best_first(study)[:N_BEST]:
        time = duration(labels.seconds(t))
        rows.append(
            [f"#{t.number}", labels.parameters(t.params), labels.value(t), time, run_cell(t, address)]
        )
    text = (
        "By the best epoch on validation, which also chose them: expect a little less on other images; "
        f"pneumo confirm {study.study_name} measures how much less."
    )
    return Section(BEST_TRIALS, [text], ["trial", "parameters", "objective", "time", "run"], rows)
