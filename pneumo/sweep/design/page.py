"""The results of a designed study as sections: what helps, in sentences and as a forest plot; then, folded,
every answer, what else changed, the learning rates, and the curves of each pair."""

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import decimal, decimal_or_dash, scientific, signed_decimal
from pneumo.display.pages import Section
from pneumo.sweep.attributes import CHOSEN_RATES, FAILURE
from pneumo.sweep.design import forest
from pneumo.sweep.design.ablation import OWN, SAME, AblationDesign
from pneumo.sweep.design.conclusions import OUTCOMES, Answer, Results, answers
from pneumo.sweep.design.findings import sentences
from pneumo.sweep.design.paired_effects import LEVEL, UNKNOWN, Effect, paired, ratio
from pneumo.sweep.design.rates import is_tuning, tried_rates
from pneumo.sweep.private_api import known_params

AUROC, BRIER, SECONDS = OUTCOMES["auroc"], OUTCOMES["brier"], OUTCOMES["seconds"]
OTHER_METRICS = {  # metric -> its column
    "best/val_auroc": "best val AUROC",
    "findings/val_loss_jump": "jump of val loss",
    "findings/train_minus_val_accuracy": "train - val accuracy",
}
RATE = {SAME: "the same", OWN: "each its own"}


def sections(study: optuna.Study, design: AblationDesign) -> list[Section]:
    trials = study.get_trials(deepcopy=False)
    found = answers(study, design)
    plots = {"": [forest.forest_plot(found)]} if any(answer.effect.n > 1 for answer in found) else {}
    curves = forest.curves(design, trials, found)
    return [
        Section("What helps", sentences(found), plots=plots),
        every_answer(design, found),
        what_else_changed(design, Results(design, trials), found),
        *([learning_rates(study, design, trials)] if design.tuned_arms else []),
        *([Section("Curves of each pair", plots={"": [curves]}, folded=True)] if curves else []),
    ]


def every_answer(design: AblationDesign, found: Sequence[Answer]) -> Section:
    """A row an answer: effect, interval, p adjusted over all answers, verdict."""
    rows = []
    for answer in found:
        rates = " → ".join("default" if rate is None else scientific(rate) for rate in answer.rates)
        rate = RATE[answer.rate] + (f": {rates}" if answer.rate == OWN and None not in answer.rates else "")
        is_factor = answer.outcome.is_factor
        effect = factor_text(answer.effect) if is_factor else effect_text(answer.effect)
        number = (lambda value: f"x {value:.2f}") if is_factor else signed_decimal
        styles = " · ".join(f"{name} {number(change)}" for name, change in answer.by_style.items())
        levels = "" if is_factor else " → ".join(map(decimal_or_dash, answer.levels))
        effect = with_seed_count(effect, answer.effect.n, design.seeds)
        p = "" if np.isnan(answer.adjusted_p) else decimal(answer.adjusted_p)
        words = (answer.name, answer.question["tested"], answer.recipe, rate, levels, effect)
        rows.append([*words, *([styles] if design.styles else []), p, answer.verdict])
    columns = ["concluded", "tested as", "recipe", "learning rate", "before → after", "effect"]
    columns += [*(["by style"] if design.styles else []), "p after Holm", "verdict"]
    return Section("Every answer", method(design, found), columns, rows, folded=True)


def method(design: AblationDesign, found: Sequence[Answer]) -> list[str]:
    """How the answers were computed, in sentences."""
    known = [answer for answer in found if answer.verdict != UNKNOWN]
    smallest = [a.effect.smallest for a in known if a.outcome is AUROC and a.effect.smallest > 0]
    n, alpha = len(known), decimal(1 - LEVEL, 2)
    texts = [
        f"The effect is the val AUROC of the last epoch, after - before, the mean of up to {design.seeds} "
        "pairs of runs with the same seed, with Student's 95% interval; of seconds, how many times as long.",
        f"A change helps or hurts where the p value of that test, adjusted by Holm's procedure over all {n} "
        f"answers, is below {alpha}: the chance of a single false one among them is then at most 5%. It is "
        f"equivalent where the interval lies within ± {decimal(AUROC.margin, 2)} (± {BRIER.margin} for Brier "
        f"scores, a factor of {1 + SECONDS.margin:g} for seconds).",
    ]
    if smallest:
        middle, least, most = (decimal(float(f(smallest))) for f in (np.median, np.min, np.max))
        texts.append(
            f"The smallest effect it could have seen (80% power, before Holm): {middle} in the middle row, "
            f"{least} to {most} over all."
        )
    if design.tuned_arms:
        texts.append(
            f"An arm's own learning rate is the one with the best mean over {design.tuning_seeds} seeds that "
            "judge nothing else; poor rates are stopped early."
        )
    if design.styles:
        texts.append(
            f"The seeds take turns in {len(design.styles)} styles of data: {', '.join(design.styles)}. The "
            "interval is over all pairs, so it holds for these styles, not for any hospital."
        )
    return texts


def what_else_changed(design: AblationDesign, results: Results, found: Sequence[Answer]) -> Section:
    """Effects on other metrics: the report also concluded that curves jump and do not converge."""
    rows = []
    for answer in found:
        if answer.outcome.is_factor or "interacts_with" in answer.question:
            continue
        pair = design.pair(answer.recipe, answer.question)
        effects = [
            effect_text(paired(*results.values(metric, answer.rate, pair)[1])) for metric in OTHER_METRICS
        ]
        seconds = factor_text(ratio(*results.values(SECONDS.metric, answer.rate, pair)[1]))
        rows.append([answer.name, answer.recipe, RATE[answer.rate], *effects, seconds])
    text = "Effects with 95% intervals by paired seeds. A jump is the mean change of val loss between epochs."
    columns = ["concluded", "recipe", "learning rate", *OTHER_METRICS.values(), "seconds"]
    return Section("What else changed", [text], columns, rows, folded=True)


def learning_rates(study: optuna.Study, design: AblationDesign, trials: Sequence[FrozenTrial]) -> Section:
    """What each arm reached with each rate, and the one that was chosen."""
    grid = sorted({rate for arm in design.tuned_arms for rate in design.rates_of(arm)})
    chosen = study.user_attrs.get(CHOSEN_RATES, {})
    rows = []
    for arm in design.tuned_arms:
        tried, of_arm = tried_rates(trials, arm), design.rates_of(arm)
        cells = [
            (rate_cell(tried.get(rate, []), design.tuning_seeds) or without_result(trials, arm, rate))
            if rate in of_arm
            else ""
            for rate in grid
        ]
        rows.append([arm, scientific(chosen[arm]) if arm in chosen else "-", *cells])
    text = (
        f"Mean val AUROC of the last epoch over the {design.tuning_seeds} seeds that choose; others judge "
        "the chosen rate. A rate that was stopped early with any of them is not chosen."
    )
    return Section("Learning rates", [text], ["arm", "chosen", *map(scientific, grid)], rows, folded=True)


def rate_cell(values: Sequence[float], seeds: int) -> str:
    """E.g. `.957`; `.957 (1 of 2)` where only one of two seeds has a result; empty where none."""
    if not values:
        return ""
    return decimal(float(np.mean(values))) + (f" ({len(values)} of {seeds})" if len(values) < seeds else "")


def without_result(trials: Sequence[FrozenTrial], arm: str, rate: float) -> str:
    """What became of a rate that no trial of an arm is complete with: `stopped` if one was stopped early,
    `failed` if all that there are failed, else `not run yet`."""
    found = [
        trial
        for trial in trials
        if is_tuning(trial)
        and known_params(trial)["arm"] == arm
        and float(known_params(trial)["rate"]) == rate
    ]
    if any(trial.state == TrialState.PRUNED and FAILURE not in trial.user_attrs for trial in found):
        return "stopped"
    return "failed" if found and all(trial.state.is_finished() for trial in found) else "not run yet"


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
