"""What a reader takes away from a designed study, in five sentences. Each says only what an interval carries:
rules make them from the answers."""

import re
from collections.abc import Sequence

import numpy as np

from pneumo.display.format import decimal, enumeration, scientific, signed_decimal
from pneumo.sweep.design.ablation import OWN, SAME
from pneumo.sweep.design.conclusions import EQUIVALENT, OUTCOMES, Answer
from pneumo.sweep.design.paired_effects import LEVEL, NO_EVIDENCE, UNKNOWN

AUROC = OUTCOMES["auroc"]


def sentences(answers: Sequence[Answer]) -> list[str]:
    """One for each recipe, one on learning rates, one on what the study could not see; or that there is no
    answer yet."""
    ranked = [a for a in answers if a.outcome is AUROC and a.verdict != UNKNOWN]
    if not ranked:
        return ["Nothing can be said before two pairs of runs are complete."]
    recipes = list(dict.fromkeys(answer.recipe for answer in ranked))
    of_recipes = [of_recipe(recipe, [a for a in ranked if a.recipe == recipe]) for recipe in recipes]
    return [*of_recipes, of_rates(ranked), of_power(ranked)]


def of_recipe(recipe: str, answers: Sequence[Answer]) -> str:
    """What helps and what hurts a recipe. A question that has both answers is judged at each side's own rate,
    which is the fairer comparison. An interaction is no change that one could make."""
    changes = [answer for answer in answers if "interacts_with" not in answer.question]
    judged = list({answer.name: answer for answer in [*at(SAME, changes), *at(OWN, changes)]}.values())
    by_size = sorted(judged, key=lambda answer: -abs(answer.effect.mean))
    helps, hurts = ([a for a in by_size if a.verdict == word] for word in (AUROC.more, AUROC.less))
    same = sum(answer.verdict == EQUIVALENT for answer in judged)
    level = next((a.levels[0] for a in at(SAME, changes) if not a.question["before"]), np.nan)
    where = "" if np.isnan(level) else f" (AUROC {decimal(level)})"
    parts = [
        f"{named(helps)} {'helps' if len(helps) == 1 else 'help'}" if helps else "nothing is shown to help",
        *([f"{named(hurts)} {'hurts' if len(hurts) == 1 else 'hurt'}"] if hurts else []),
        *(
            [
                f"{same} of {len(judged)} changes {'makes' if same == 1 else 'make'} no difference (within ± "
                f"{decimal(AUROC.margin, 2)})"
            ]
            if same
            else []
        ),
    ]
    return f"On the {recipe} recipe{where} {'; '.join(parts)}."


def named(answers: Sequence[Answer], shown: int = 3) -> str:
    texts = [f"{short(answer)} ({signed_decimal(answer.effect.mean)})" for answer in answers[:shown]]
    if len(answers) > shown:
        texts.append(f"{len(answers) - shown} more")
    return enumeration(texts)


def short(answer: Answer) -> str:
    """The change without where it is from: `larger batch` of `5 larger batch`."""
    return re.sub(r"^(\d+ |never suspected, )", "", answer.name)


def of_rates(answers: Sequence[Answer]) -> str:
    """What has another verdict once each side has its own rate, because it needs another one. What is
    known then comes first."""
    own = {(answer.name, answer.recipe): answer for answer in at(OWN, answers)}
    claims = {AUROC.more, AUROC.less, EQUIVALENT}
    pairs = [
        (same, other)
        for same in at(SAME, answers)
        if (other := own.get((same.name, same.recipe))) is not None
        and other.needs_other_rate
        and other.verdict != same.verdict
        and (other.verdict in claims or same.verdict in {AUROC.more, AUROC.less})
    ]
    if not pairs:
        return "No verdict changes when each side has its own best learning rate."
    found = []
    for same, other in sorted(pairs, key=lambda pair: pair[1].verdict not in claims)[:3]:
        before, after = (scientific(rate) for rate in other.rates if rate is not None)
        change = f"{signed_decimal(same.effect.mean)} becomes {signed_decimal(other.effect.mean)}"
        found.append(
            f"{short(same)} on the {same.recipe} recipe needs {after} instead of {before} ({change}, "
            f"{same.verdict} becomes {other.verdict})"
        )
    return f"With each side at its own best learning rate, verdicts change: {'; '.join(found)}."


def of_power(answers: Sequence[Answer]) -> str:
    """How small an effect the study could have seen, and how much it leaves open."""
    smallest = [answer.effect.smallest for answer in answers if answer.effect.smallest > 0]
    open_ = [answer for answer in answers if answer.verdict == NO_EVIDENCE]
    alone = sum(answer.effect.low > 0 or answer.effect.high < 0 for answer in open_)
    by_chance = (1 - LEVEL) * len(answers)
    parts = [f"On {len(open_)} of {len(answers)} comparisons there is no evidence either way"]
    if alone:
        has = "has a 95% interval that excludes" if alone == 1 else "have 95% intervals that exclude"
        parts.append(
            f"{alone} of these {has} 0, as {by_chance:.1f} would by chance, without being significant after "
            "Holm's correction"
        )
    if smallest:
        parts.append(f"effects below {decimal(float(np.median(smallest)), 2)} would mostly be missed")
    return f"{'; '.join(parts)}."


def at(rate: str, answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.rate == rate]
