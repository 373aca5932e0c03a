"""The report on a study, finished or not, as sections of text and tables; display/pages.py renders them.

A study that samples: its best trials, which parameters mattered, and what pruning saved. A design: the
verdict on each question.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import decimal, duration, signed_decimal
from pneumo.display.pages import Cell, Link, Section
from pneumo.sweep import attributes, labels
from pneumo.sweep.ablation import AblationDesign, stored_design
from pneumo.sweep.importance import MIN_COMPLETE, importance, importance_spread
from pneumo.sweep.paired_effects import LEVEL, NO_EVIDENCE, UNKNOWN, Effect, holm, paired, ratio

Address = Callable[[str], str]  # id of an MLflow run -> where its page is
N_BEST = 10
AUROC, SECONDS = "last/val_auroc", "fit_seconds"  # the metrics of the verdicts
HOLM = "after Holm"
OTHER_OUTCOMES = {  # metric -> its column
    "best/val_auroc": "best val AUROC",
    "findings/val_loss_jump": "jump of val loss",
    "findings/train_minus_val_accuracy": "train - val accuracy",
}


def summary(
    study: optuna.Study, n_trials: int | None = None, address: Address | None = None
) -> list[Section]:
    """The first section is the state of the study, the last one its best trials, which link to their runs
    where `address` is given."""
    trials = study.get_trials(deepcopy=False)
    design = stored_design(study)
    sections = [status(study, trials, n_trials or study.user_attrs.get(attributes.N_TRIALS))]
    if design:
        sections += [conclusions(design, trials), other_outcomes(design, trials)]
    else:
        sections += [importances(study), pruning(trials)]
    if len(study.directions) > 1:
        sections.append(pareto_front(study))
    return [*sections, best_trials(study, design is not None, address)]


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


def conclusions(design: AblationDesign, trials: Sequence[FrozenTrial]) -> Section:
    """The verdict on each question, by the last epoch's AUROC or by the seconds: by its own interval, and by
    Holm's procedure over all intervals of the table."""
    cells = [(question, recipe) for question in design.questions for recipe in design.recipes]
    effects = [effect_of(design, trials, recipe, question) for question, recipe in cells]
    adjusted = iter(zip(effects, holm([effect.p for effect in effects]), strict=True))
    rows = []
    for question in design.questions:
        texts, verdicts, after_holm = [], {}, {}
        for recipe, (effect, p) in zip(design.recipes, adjusted, strict=False):
            text = factor_text(effect) if by_seconds(question) else effect_text(effect)
            texts.append(with_seed_count(text, effect.n, design.seeds))
            verdicts[recipe] = verdict_on(question, effect)
            after_holm[recipe] = NO_EVIDENCE if p >= 1 - LEVEL else verdicts[recipe]
        verdict = [combined(verdicts), combined(after_holm)]
        rows.append([question["concluded"], question["tested"], *texts, *verdict])
    notes = [
        f"val AUROC of the last epoch, after - before, mean of up to {design.seeds} pairs of runs with the "
        "same seed, with Student's 95% interval; helps or hurts where the interval excludes 0. By seconds: "
        "how many times as long.",
    ]
    smallest = [
        effect.smallest
        for (question, _), effect in zip(cells, effects, strict=True)
        if effect.smallest > 0 and not by_seconds(question)
    ]
    if smallest:
        notes.append(
            f"The smallest effect it could have seen (80% power): {decimal(float(np.median(smallest)))} in "
            f"the middle row, {decimal(min(smallest))} to {decimal(max(smallest))} over all."
        )
    if n := sum(not np.isnan(effect.p) for effect in effects):
        notes.append(expected_by_chance(n))
    recipes = [f"{recipe} recipe" for recipe in design.recipes]
    columns = ["concluded", "tested as", *recipes, "verdict", HOLM]
    return Section("The report's conclusions", notes, columns, rows)


def effect_of(
    design: AblationDesign, trials: Sequence[FrozenTrial], recipe: str, question: Mapping[str, Any]
) -> Effect:
    """The difference of the last epoch's AUROC, or the factor on the seconds."""
    effect, metric = (ratio, SECONDS) if by_seconds(question) else (paired, AUROC)
    return effect(*outcomes(design, trials, recipe, question, metric))


def verdict_on(question: Mapping[str, Any], effect: Effect) -> str:
    if by_seconds(question):
        return effect.verdict(none=1.0, more="costs time", less="saves time")
    return effect.verdict()


def expected_by_chance(n_intervals: int) -> str:
    """How many verdicts to expect in a table if no change had an effect, and what Holm's column does about
    it."""
    expected = f"{(1 - LEVEL) * n_intervals:.2g}"
    return (
        f"Of {n_intervals} intervals, 5%, that is {expected}, are expected to exclude no effect by chance "
        f"alone. The column {HOLM} keeps a verdict only where its p value, adjusted over all {n_intervals}, "
        "is below .05: the chance of a single false verdict in that whole column is then at most 5%."
    )


def by_seconds(question: Mapping[str, Any]) -> bool:
    return question.get("outcome") == "seconds"


def other_outcomes(design: AblationDesign, trials: Sequence[FrozenTrial]) -> Section:
    """Effects on other metrics: the report also concluded that curves jump and do not converge."""
    rows = []
    for question in (question for question in design.questions if not by_seconds(question)):
        for recipe in design.recipes:
            last = outcomes(design, trials, recipe, question, AUROC)
            levels = " → ".join(decimal(float(np.mean(side))) if side else "-" for side in last)
            effects = [paired(*outcomes(design, trials, recipe, question, name)) for name in OTHER_OUTCOMES]
            seconds = factor_text(ratio(*outcomes(design, trials, recipe, question, SECONDS)))
            rows.append([question["concluded"], recipe, levels, *map(effect_text, effects), seconds])
    text = "Effects with 95% intervals by paired seeds. A jump is the mean change of val loss between epochs."
    columns = ["concluded", "recipe", "last val AUROC", *OTHER_OUTCOMES.values(), "seconds"]
    return Section("What else changed", [text], columns, rows)


def outcomes(
    design: AblationDesign, trials: Sequence[FrozenTrial], recipe: str, question: Mapping[str, Any], name: str
) -> tuple[list[float], list[float]]:
    """The values of a metric before and after the change of a question, of the seeds that have both."""
    values: dict[tuple[str, int], float] = {}
    for trial in trials:
        metrics = trial.user_attrs.get(attributes.METRICS, {})
        if trial.state == TrialState.COMPLETE and name in metrics:
            values[trial.params["arm"], trial.params["seed"]] = metrics[name]
    before, after = design.pair(recipe, question)
    seeds = [s for s in range(design.seeds) if (before, s) in values and (after, s) in values]
    return [values[before, s] for s in seeds], [values[after, s] for s in seeds]


def with_seed_count(text: str, n: int, seeds: int) -> str:
    """The text of an effect; with the number of pairs, if it is not yet that of the design's seeds."""
    if not n:
        return "not run yet"
    return text + (f", {n} of {seeds} seeds" if n < seeds else "")


def effect_text(effect: Effect, number: Callable[[float], str] = signed_decimal) -> str:
    """E.g. `+.041 (+.012, +.070)`; the mean alone where the interval is not known."""
    if np.isnan(effect.mean):
        return "-"
    interval = "" if np.isnan(effect.low) else f" ({number(effect.low)}, {number(effect.high)})"
    return number(effect.mean) + interval


def factor_text(effect: Effect) -> str:
    """E.g. `x 1.99 (1.90, 2.08)`."""
    return "-" if np.isnan(effect.mean) else f"x {effect_text(effect, '{:.2f}'.format)}"


def combined(verdicts: Mapping[str, str]) -> str:
    """The verdicts by recipe as one text: `helps on both`, or `helps on report, hurts on best`."""
    different = set(verdicts.values())
    if len(different) == 1:
        verdict = different.pop()
        return verdict if verdict in (NO_EVIDENCE, UNKNOWN) or len(verdicts) == 1 else f"{verdict} on both"
    return ", ".join(f"{verdict} on {recipe}" for recipe, verdict in verdicts.items())


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
    done = pruned.last_step or 0
    return bool(0 < done < pruned.user_attrs.get(attributes.EPOCHS, done + 1))


def saved_seconds(pruned: Sequence[FrozenTrial]) -> float:
    """The seconds that the pruned trials would have trained longer, at their own speed."""
    total = 0.0
    for trial in pruned:
        done = trial.last_step or 0
        if done and attributes.DUPLICATE_OF not in trial.user_attrs:
            left = trial.user_attrs.get(attributes.EPOCHS, done) - done
            total += labels.seconds(trial) / done * left
    return total


def pareto_front(study: optuna.Study) -> Section:
    """The trials of several objectives that no other trial beats in all of them."""
    rows = [[f"#{t.number}", labels.parameters(t.params), *labels.each_value(t)] for t in study.best_trials]
    columns = ["trial", "parameters", *study.user_attrs[attributes.OBJECTIVE]]
    return Section("Not beaten in every objective", [], columns, rows)


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials without duplicates, sorted by the first objective."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    distinct = [t for t in complete if attributes.DUPLICATE_OF not in t.user_attrs]
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(distinct, key=lambda trial: (sign * trial.values[0], trial.number))


def run_cell(trial: FrozenTrial, address: Address | None) -> Cell:
    """The first digits of the id of a trial's run, a link where there is an address."""
    run_id = trial.user_attrs.get(attributes.RUN_ID, "")
    return Link(run_id[:8], address(run_id)) if run_id and address else run_id[:8]


def best_trials(study: optuna.Study, is_design: bool, address: Address | None) -> Section:
    rows: list[list[Cell]] = []
    for t in best_first(study)[:N_BEST]:
        time = duration(labels.seconds(t))
        rows.append(
            [f"#{t.number}", labels.parameters(t.params), labels.value(t), time, run_cell(t, address)]
        )
    text = "By the best epoch on validation, which also chose them: expect a little less on other images"
    text += "." if is_design else f"; pneumo confirm {study.study_name} measures how much less."
    return Section("The ten best", [text], ["trial", "parameters", "objective", "time", "run"], rows)
