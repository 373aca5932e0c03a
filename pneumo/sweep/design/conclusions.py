"""The answers of a designed study: the effect of each change on each recipe, at the same learning rate and
with each side at its own best one, with verdicts that hold over all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumo.sweep import attributes
from pneumo.sweep.design.ablation import OWN, SAME, AblationDesign, Question
from pneumo.sweep.design.paired_effects import LEVEL, NO_EVIDENCE, UNKNOWN, Effect, holm, paired, ratio
from pneumo.sweep.design.rates import chosen_rate

EQUIVALENT = "equivalent"


@dataclass(frozen=True)
class Outcome:
    """What a question is judged by. A change within `margin`, either way, makes no difference in practice; of
    a factor, it is the distance from 1."""

    metric: str
    title: str
    margin: float
    more: str = "helps"
    less: str = "hurts"
    is_factor: bool = False


OUTCOMES = {
    "auroc": Outcome("last/val_auroc", "val AUROC of the last epoch", 0.02),
    "brier": Outcome("best/val_calibrated_brier", "Brier score after calibration", 0.01, "hurts", "helps"),
    "seconds": Outcome("fit_seconds", "seconds of training", 0.10, "costs time", "saves time", True),
}


@dataclass(frozen=True)
class Answer:
    """The effect of a question's change on one recipe. `rate` is SAME or OWN, `rates` the learning rates
    before and after where they are known."""

    question: Question
    recipe: str
    rate: str
    outcome: Outcome
    effect: Effect
    rates: tuple[float | None, float | None]
    levels: tuple[float, float]  # the mean before and after; NaN where nothing is known
    by_style: Mapping[str, float] = field(default_factory=dict)  # the mean effect of each style's seeds
    adjusted_p: float = float("nan")  # by Holm over all answers of the study

    @property
    def name(self) -> str:
        return str(self.question["concluded"])

    @property
    def verdict(self) -> str:
        """Equivalent if the interval lies within the margin; helps or hurts where Holm's p is below .05."""
        effect, outcome = self.effect, self.outcome
        if np.isnan(effect.low):
            return UNKNOWN
        none = 1.0 if outcome.is_factor else 0.0
        low, high = none - outcome.margin, none + outcome.margin
        if outcome.is_factor:
            low, high = 1 / high, high
        if low <= effect.low and effect.high <= high:
            return EQUIVALENT
        if self.adjusted_p >= 1 - LEVEL:
            return NO_EVIDENCE
        return effect.verdict(none, outcome.more, outcome.less)

    @property
    def needs_other_rate(self) -> bool:
        """Whether the two sides are best at different learning rates."""
        return self.rate == OWN and None not in self.rates and self.rates[0] != self.rates[1]


def mean(values: Sequence[float]) -> float:
    """NaN of no values."""
    return float(np.mean(values)) if values else np.nan


class Results:
    """The metrics of a design's complete trials by arm, seed and rate, without those that chose a rate."""

    def __init__(self, design: AblationDesign, trials: Sequence[FrozenTrial]):
        self.design = design
        self._metrics: dict[tuple[str, int, str], Mapping[str, float]] = {}
        for trial in trials:
            if trial.state == TrialState.COMPLETE and trial.params.get("rate", SAME) in (SAME, OWN):
                key = trial.params["arm"], trial.params["seed"], trial.params.get("rate", SAME)
                self._metrics[key] = trial.user_attrs.get(attributes.METRICS, {})

    def values(self, metric: str, rate: str, arms: Sequence[str]) -> tuple[list[int], list[list[float]]]:
        """The seeds that have the metric in all of the arms, and their values, arm by arm."""
        found = {
            seed: [self._metrics.get((arm, seed, rate), {}).get(metric) for arm in arms]
            for seed in range(self.design.seeds)
        }
        whole = {seed: [v for v in values if v is not None] for seed, values in found.items()}
        seeds = [seed for seed, values in whole.items() if len(values) == len(arms)]
        return seeds, [[whole[seed][place] for seed in seeds] for place in range(len(arms))]

    def effect(self, question: Question, recipe: str, rate: str, outcome: Outcome) -> Answer:
        """One answer, its p not yet adjusted."""
        design = self.design
        pair = design.pair(recipe, question)
        seeds, (before, after) = self.values(outcome.metric, rate, pair)
        measure = ratio if outcome.is_factor else paired
        effect = measure(before, after)
        if "interacts_with" in question:
            both = [*pair, *design.pair(recipe, question, with_interaction=True)]
            seeds, sides = self.values(outcome.metric, rate, both)
            changes = [np.subtract(sides[place + 1], sides[place]).tolist() for place in (0, 2)]
            before, after = changes
            effect = paired(before, after)
        by_style: dict[str, list[float]] = {}
        for seed, one, other in zip(seeds, before, after, strict=True):
            change = other / one if outcome.is_factor else other - one
            by_style.setdefault(design.style_of(seed) or "", []).append(change)
        return Answer(
            question,
            recipe,
            rate,
            outcome,
            effect,
            (None, None),
            (mean(before), mean(after)),
            {style: float(np.mean(changes)) for style, changes in by_style.items() if style},
        )


def answers(study: optuna.Study, design: AblationDesign) -> list[Answer]:
    """All answers, question by question, recipe by recipe, at the same rate and at their own."""
    results = Results(design, study.get_trials(deepcopy=False))
    found = list(unadjusted(study, design, results))
    adjusted = holm([answer.effect.p for answer in found])
    return [replace(answer, adjusted_p=p) for answer, p in zip(found, adjusted, strict=True)]


def unadjusted(study: optuna.Study, design: AblationDesign, results: Results) -> Iterator[Answer]:
    for question in design.questions:
        outcome = OUTCOMES[question.get("outcome", "auroc")]
        for recipe in design.recipes_of(question):
            for rate in (SAME, OWN) if design.has_own_rates(question) else (SAME,):
                answer = results.effect(question, recipe, rate, outcome)
                before, after = (
                    chosen_rate(study, design, arm, rate) for arm in design.pair(recipe, question)
                )
                yield replace(answer, rates=(before, after))
