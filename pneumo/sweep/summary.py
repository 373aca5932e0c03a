"""A study's answers, as sections of text and tables; how they look is the pages' business."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import decimal, duration, signed_decimal
from pneumo.display.pages import Section
from pneumo.sweep import labels
from pneumo.sweep.ablation import AblationDesign
from pneumo.sweep.paired_effects import LEVEL, NO_EVIDENCE, UNKNOWN, Effect, holm, paired, ratio

SHOWN = 10
ENOUGH_FOR_IMPORTANCE = 5  # complete trials
VERDICT, SECONDS = "last/val_auroc", "fit_seconds"
HOLM = "after Holm"
ASIDE = {  # outcome -> its column
    "best/val_auroc": "best val AUROC",
    "findings/val_loss_jump": "jump of val loss",
    "findings/train_minus_val_accuracy": "train - val accuracy",
}


def summary(study: optuna.Study, n_trials: int | None = None) -> list[Section]:
    """Of a study, finished or not."""
    trials = study.get_trials(deepcopy=False)
    kept = study.user_attrs.get("design")
    design = AblationDesign(**kept) if kept else None
    sections = [status(study, trials, n_trials or study.user_attrs.get("n_trials"))]
    if design:
        sections += [conclusions(design, trials), beside(design, trials)]
    else:
        sections.append(mattered(study))
        sections.append(pruning(trials))
    if len(study.directions) > 1:
        sections.append(front(study))
    return [*sections, ten_best(study, trials, design is not None)]


def status(study: optuna.Study, trials: Sequence[FrozenTrial], n_trials: int | None) -> Section:
    done = sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    running = sum(t.state == TrialState.RUNNING for t in trials)
    of = f"{done} of {n_trials} trials done" if n_trials else f"{done} trials done"
    unfinished = n_trials is not None and done < n_trials
    seconds = sum(labels.seconds(t) for t in trials if t.state.is_finished())
    text = [
        f"{'UNFINISHED: ' if unfinished else ''}{of}: {labels.counts(trials)}; "
        f"{duration(seconds)} of training"
    ]
    if running:
        text.append(f"{running} running now")
    return Section(f"Study {study.study_name}", text)


def conclusions(design: AblationDesign, trials: Sequence[FrozenTrial]) -> Section:
    """The verdict on each question, by the last epoch's AUROC or by the seconds: by its own interval, and by
    Holm's procedure over all intervals of the table."""
    asked = [(question, recipe) for question in design.questions for recipe in design.recipes]
    effects = [effect_of(design, trials, recipe, question) for question, recipe in asked]
    adjusted = holm([effect.p for effect in effects])
    rows = []
    for question in design.questions:
        cells, plain, held = [], {}, {}
        for (one, recipe), effect, p in zip(asked, effects, adjusted, strict=True):
            if one is question:
                words_of = times if by_seconds(question) else with_interval
                cells.append(partly(words_of(effect), effect.n, design.seeds))
                plain[recipe] = verdict_on(question, effect)
                held[recipe] = NO_EVIDENCE if p >= 1 - LEVEL else plain[recipe]
        rows.append([question["concluded"], question["tested"], *cells, both(plain), both(held)])
    text = [
        f"val AUROC of the last epoch, after - before, mean of up to {design.seeds} pairs of runs with the "
        "same seed, with Student's 95% interval; helps or hurts where the interval excludes 0. By seconds: "
        "how many times as long.",
    ]
    seen = [
        effect.smallest
        for (question, _), effect in zip(asked, effects, strict=True)
        if effect.smallest > 0 and not by_seconds(question)
    ]
    if seen:
        middle = float(np.median(seen))
        text.append(
            f"The smallest effect it could have seen (80% power): {decimal(middle)} in the middle row, "
            f"{decimal(min(seen))} to {decimal(max(seen))} over all."
        )
    if n := sum(not np.isnan(effect.p) for effect in effects):
        text.append(by_chance(n))
    return Section(
        "The report's conclusions",
        text,
        ["concluded", "tested as", *(f"{recipe} recipe" for recipe in design.recipes), "verdict", HOLM],
        rows,
    )


def effect_of(
    design: AblationDesign, trials: Sequence[FrozenTrial], recipe: str, question: Mapping[str, Any]
) -> Effect:
    """On the last epoch's AUROC, or on the seconds, of which none is a factor of 1."""
    if by_seconds(question):
        return ratio(*outcomes(design, trials, recipe, question, SECONDS))
    return paired(*outcomes(design, trials, recipe, question, VERDICT))


def verdict_on(question: Mapping[str, Any], effect: Effect) -> str:
    if by_seconds(question):
        return effect.verdict(none=1.0, more="costs time", less="saves time")
    return effect.verdict()


def by_chance(n_intervals: int) -> str:
    """How many verdicts of a table to expect where there is nothing, and what Holm's column does about it."""
    expected = f"{(1 - LEVEL) * n_intervals:.2g}"
    return (
        f"Of {n_intervals} intervals, 5%, that is {expected}, are expected to exclude no effect by chance "
        f"alone. The column {HOLM} keeps a verdict only where its p value, adjusted over all {n_intervals}, "
        "is below .05: the chance of a single false verdict in that whole column is then at most 5%."
    )


def by_seconds(question: Mapping[str, Any]) -> bool:
    return question.get("outcome") == "seconds"


def beside(design: AblationDesign, trials: Sequence[FrozenTrial]) -> Section:
    """The other outcomes: the report's complaint was of curves that jump and do not converge."""
    rows = []
    for question in design.questions:
        if by_seconds(question):
            continue
        for recipe in design.recipes:
            last = outcomes(design, trials, recipe, question, VERDICT)
            levels = " → ".join(decimal(float(np.mean(side))) if side else "-" for side in last)
            effects = [paired(*outcomes(design, trials, recipe, question, name)) for name in ASIDE]
            spent = ratio(*outcomes(design, trials, recipe, question, SECONDS))
            rows.append(
                [question["concluded"], recipe, levels, *(with_interval(e) for e in effects), times(spent)]
            )
    return Section(
        "What else changed",
        [
            "Effects with 95% intervals by paired seeds. A jump is the mean change of val loss from epoch to "
            "epoch."
        ],
        ["concluded", "recipe", "last val AUROC", *ASIDE.values(), "seconds"],
        rows,
    )


def outcomes(
    design: AblationDesign, trials: Sequence[FrozenTrial], recipe: str, question: Mapping[str, Any], name: str
) -> tuple[list[float], list[float]]:
    """Before and after, seed by seed, where both are there."""
    found: dict[tuple[str, int], float] = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE and name in trial.user_attrs.get("figures", {}):
            found[trial.params["arm"], trial.params["seed"]] = trial.user_attrs["figures"][name]
    before, after = design.pair(recipe, question)
    seeds = [s for s in range(design.seeds) if (before, s) in found and (after, s) in found]
    return [found[before, s] for s in seeds], [found[after, s] for s in seeds]


def partly(words: str, n: int, seeds: int) -> str:
    """Says how many of the pairs are there, where some are not."""
    if not n:
        return "not run yet"
    return words + (f", {n} of {seeds} seeds" if n < seeds else "")


def with_interval(effect: Effect) -> str:
    """+.041 (+.012, +.070)"""
    if np.isnan(effect.mean):
        return "-"
    if np.isnan(effect.low):
        return signed_decimal(effect.mean)
    return f"{signed_decimal(effect.mean)} ({signed_decimal(effect.low)}, {signed_decimal(effect.high)})"


def times(effect: Effect) -> str:
    if np.isnan(effect.mean):
        return "-"
    return f"x {effect.mean:.2f}" + (
        "" if np.isnan(effect.low) else f" ({effect.low:.2f}, {effect.high:.2f})"
    )


def both(by_recipe: Mapping[str, str]) -> str:
    """helps on both; helps on report, hurts on best"""
    different = set(by_recipe.values())
    if len(different) == 1:
        word = different.pop()
        return word if word in (NO_EVIDENCE, UNKNOWN) or len(by_recipe) == 1 else f"{word} on both"
    return ", ".join(f"{word} on {recipe}" for recipe, word in by_recipe.items())


def mattered(study: optuna.Study) -> Section:
    importances = importance(study)
    if not importances:
        return Section("What mattered", [f"Not known before {ENOUGH_FOR_IMPORTANCE} complete trials."])
    rows = [[labels.name(name), f"{share:.0%}"] for name, share in importances.items()]
    title = (
        "Share of the objective's variance over the complete trials (fANOVA); a rough guide with few trials."
    )
    return Section("What mattered", [title], ["parameter", "share"], rows)


def importance(study: optuna.Study) -> dict[str, float]:
    """Parameter -> share of the first objective's variance, largest first; empty where too few trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH_FOR_IMPORTANCE or len({t.values[0] for t in complete}) < 2:
        return {}
    target = (lambda trial: trial.values[0]) if len(study.directions) > 1 else None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found: dict[str, float] = optuna.importance.get_param_importances(
        study, evaluator=evaluator, target=target
    )
    return found


def pruning(trials: Sequence[FrozenTrial]) -> Section:
    pruned = [t for t in trials if t.state == TrialState.PRUNED and is_stopped_early(t)]
    if not pruned:
        return Section("What pruning saved", ["No trial was pruned."])
    spent = sum(labels.seconds(t) for t in pruned)
    saved = saved_seconds(pruned)
    text = (
        f"{len(pruned)} trials were stopped early: {duration(spent)} spent on them, "
        f"about {duration(saved)} saved"
    )
    return Section(
        "What pruning saved", [f"{text} (their own seconds an epoch x the epochs they did not run)."]
    )


def is_stopped_early(pruned: FrozenTrial) -> bool:
    """Rather than out of memory, or, as was once possible, after its last epoch."""
    done = pruned.last_step or 0
    return bool(0 < done < pruned.user_attrs.get("epochs", done + 1))


def saved_seconds(pruned: Sequence[FrozenTrial]) -> float:
    total = 0.0
    for trial in pruned:
        done = trial.last_step or 0
        if done and "duplicate_of" not in trial.user_attrs:
            total += labels.seconds(trial) / done * (trial.user_attrs.get("epochs", done) - done)
    return total


def front(study: optuna.Study) -> Section:
    """Several objectives have no best, but trials that no other one beats in all of them."""
    rows = [[f"#{t.number}", labels.parameters(t.params), *labels.each_value(t)] for t in study.best_trials]
    return Section(
        "Not beaten in every objective", [], ["trial", "parameters", *study.user_attrs["objective"]], rows
    )


def best_first(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Complete trials with a result of their own, by the first objective."""
    own = [t for t in trials if t.state == TrialState.COMPLETE and "duplicate_of" not in t.user_attrs]
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(own, key=lambda trial: (sign * trial.values[0], trial.number))


def ten_best(study: optuna.Study, trials: Sequence[FrozenTrial], designed: bool) -> Section:
    best = best_first(study, trials)[:SHOWN]
    rows = [
        [
            f"#{t.number}",
            labels.parameters(t.params),
            labels.value(t),
            duration(labels.seconds(t)),
            t.user_attrs.get("run_id", "")[:8],
        ]
        for t in best
    ]
    text = [
        "By the best epoch on validation, which also chose them: expect a little less on other images"
        + ("." if designed else f"; pneumo confirm {study.study_name} says how much less.")
    ]
    return Section("The ten best", text, ["trial", "parameters", "objective", "time", "run"], rows)
