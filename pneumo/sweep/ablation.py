"""A designed experiment: questions asked around recipes, each answered by pairs of runs. Nothing is sampled.

    search.design:
      seeds: 5
      needs: {phantom: {name: value}}                  what a choice of data needs
      recipes: {report: {name: value}, ...}         where the questions are asked
      questions: [{concluded:, tested:, before: {name: value}, after: {name: value}}, ...]

An arm is a recipe with one side of a question; equal arms are run once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import Trial

from pneumo.errors import InputError
from pneumo.runs.config import key_of
from pneumo.sweep.search_space import Value, override, split_overrides


@dataclass(frozen=True)
class AblationDesign:
    recipes: Mapping[str, Mapping[str, Value]]
    questions: Sequence[Mapping[str, Any]]
    seeds: int
    fixed: Sequence[str]  # overrides as typed: they win over a recipe, a question wins over them

    leaves_out: Sequence[str] = ()

    def arm(self, recipe: str, side: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
        """Its name, e.g. `report: optimizer.lr=0.0001`, and the overrides it stands for."""
        typed = {key_of(line) for line in self.fixed}
        own = {name: value for name, value in self.recipes[recipe].items() if name not in typed}
        changed = {name: value for name, value in side.items() if own.get(name) != value}
        words = " ".join(override(name, value) for name, value in changed.items())
        return (f"{recipe}: {words}" if words else recipe), {**own, **changed}

    def pair(self, recipe: str, question: Mapping[str, Any]) -> tuple[str, str]:
        """The names of its arms before and after the change."""
        return self.arm(recipe, question["before"])[0], self.arm(recipe, question["after"])[0]

    @cached_property
    def arms(self) -> dict[str, dict[str, Value]]:
        sides = [{}, *(question[side] for question in self.questions for side in ("before", "after"))]
        return dict(self.arm(recipe, side) for recipe in self.recipes for side in sides)

    @property
    def size(self) -> int:
        return len(self.arms) * self.seeds

    @property
    def queue(self) -> list[dict[str, Value]]:
        """Seed by seed, so that a design that is stopped has whole pairs."""
        return [{"arm": arm, "seed": seed} for seed in range(self.seeds) for arm in self.arms]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        axes: dict[str, Sequence[Value]] = {"arm": list(self.arms), "seed": list(range(self.seeds))}
        return {name: trial._suggest(name, CategoricalDistribution(values)) for name, values in axes.items()}

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        arm = self.arms[str(values["arm"])]
        return [
            *self.fixed,
            *(override(name, value) for name, value in arm.items()),
            f"seed={values['seed']}",
        ]

    def extremes(self) -> list[dict[str, Value]]:
        return [{"arm": arm, "seed": 0} for arm in self.arms]

    def described(self) -> dict[str, str]:
        arms = {
            name: " ".join(override(key, value) for key, value in values.items())
            for name, values in self.arms.items()
        }
        return arms | {"seed": f"0 to {self.seeds - 1}"}


def design_of(spec: Mapping[str, Any], arguments: Sequence[str], data: str) -> AblationDesign:
    """`data`: the name of the choice. InputError: something is searched, which a design does not do."""
    searched, fixed = split_overrides(arguments)
    if searched:
        raise InputError(f"{searched[0]}: a design has its own arms; search=report searches")
    if not isinstance(spec["seeds"], int) or spec["seeds"] < 2:
        raise InputError(
            f"search.design.seeds must be at least 2 for pairs to have a spread, got {spec['seeds']}"
        )
    needed = [override(name, value) for name, value in spec["needs"].get(data, {}).items()]
    typed = {key_of(line) for line in fixed}
    return AblationDesign(
        spec["recipes"],
        spec["questions"],
        spec["seeds"],
        [*(line for line in needed if key_of(line) not in typed), *fixed],
    )
