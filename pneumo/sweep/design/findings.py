"""What a reader takes away from a designed study, in five sentences. Each says only what an interval carries:
rules make them from the answers."""

from collections.abc import Sequence

import numpy as np

from pneumo.display.format import decimal, enumeration, scientific, signed_decimal
from pneumo.sweep.design.ablation import OWN, SAME
from pneumo.sweep.design.conclusions import EQUIVALENT, OUTCOMES, Answer
from pneumo.sweep.design.paired_effects import NO_EVIDENCE, UNKNOWN

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
    which is the fairer comparison."""
    judged = list({answer.name: answer for answer in [*at(SAME, answers), *at(OWN, answers)]}.values())
    by_size = sorted(judged, key=lambda answer: -abs(answer.effect.mean))
    helps, hurts = ([a for a in by_size if a.verdict == word] for word in (AUROC.more, AUROC.less))
    same = sum(answer.verdict == EQUIVALENT for answer in judged)
    parts = [
        f"{named(helps)} {'helps' if len(helps) == 1 else 'help'}" if helps else "nothing is shown to help",
        *([f"{named(hurts)} {'hurts' if len(hurts) == 1 else 'hurt'}"] if hurts else []),
        *(
            [f"{same} of {len(judged)} changes make no difference (within ± {decimal(AUROC.margin, 2)})"]
            if same
            else []
        ),
    ]
    return f"On the {recipe} recipe {enumeration(parts)}."


def named(answers: Sequence[Answer], shown: int = 3) -> str:
    texts = [f"{short(answer)} ({signed_decimal(answer.effect.mean)})" for answer in answers[:shown]]
    if len(answers) > shown:
        texts.append(f"{len(answers) - shown} more")
    return enumeration(texts)


def short(answer: Answer) -> str:
    """The change without its number in the report: `larger batch`."""
    return answer.name.split(" ", 1)[1] if answer.name[0].isdigit() else answer.name


def of_rates(answers: Sequence[Answer]) -> str:
    """What is good or bad only because it needs another rate."""
    own = {(answer.name, answer.recipe): answer for answer in at(OWN, answers)}
    found = []
    for answer in at(SAME, answers):
        other = own.get((answer.name, answer.recipe))
        if other and other.needs_other_rate and other.verdict != answer.verdict:
            before, after = (scientific(rate) for rate in other.rates if rate is not None)
            change = f"{signed_decimal(answer.effect.mean)} becomes {signed_decimal(other.effect.mean)}"
            found.append(
                f"{short(answer)} on the {answer.recipe} recipe wants {after} instead of {before}: {change}, "
                f"{answer.verdict} becomes {other.verdict}"
            )
    if not found:
        return "No verdict changes when each side has its own best learning rate."
    return f"A verdict may be about the learning rate: {'; '.join(found[:3])}."


def of_power(answers: Sequence[Answer]) -> str:
    """How small an effect the study could have seen, and how much it leaves open."""
    smallest = [answer.effect.smallest for answer in answers if answer.effect.smallest > 0]
    open_ = sum(answer.verdict == NO_EVIDENCE for answer in answers)
    seen = (
        f"smaller effects than {decimal(float(np.median(smallest)), 2)} would mostly be missed"
        if smallest
        else ""
    )
    return (
        f"On {open_} of {len(answers)} comparisons there is no evidence either way{'; ' * bool(seen)}{seen}."
    )


def at(rate: str, answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.rate == rate]
