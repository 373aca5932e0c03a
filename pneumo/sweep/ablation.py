"""A designed experiment: each question changes one thing in each recipe and is answered by pairs of runs that
share their seeds. Nothing is sampled.

    search.design:
      seeds: 5
      needs: {phantom: {name: value}}               overrides that a choice of data needs
      recipes: {report: {name: value}, ...}         overrides that the questions start from
      questions: [{concluded:, tested:, before: {name: value}, after: {name: value}}, ...]

An arm is a recipe with one side of a question, before or after; equal arms are run once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import optuna
from optuna.trial import Trial

from pneumo.errors import InputError
from pneumo.runs.config import override_key
from pneumo.sweep.attributes import DESIGN
from pneumo.sweep.search_space import Value, override, split_overrides


@dataclass(frozen=True)
class AblationDesign:
    recipes: Mapping[str, Mapping[str, Value]]
    questions: Sequence[Mapping[str, Any]]
    seeds: int
    fixed: Sequence[str]  # overrides of the command line: they win over a recipe, a question over them

    notes: ClassVar[Sequence[str]] = ()  # as of a SearchSpace

    def arm(self, recipe: str, side: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
        """The name of an arm, e.g. `report: optimizer.lr=0.0001`, and its overrides."""
        fixed = {override_key(line) for line in self.fixed}
        base = {name: value for name, value in self.recipes[recipe].items() if name not in fixed}
        changed = {name: value for name, value in side.items() if base.get(name) != value}
        text = " ".join(override(name, value) for name, value in changed.items())
        return (f"{recipe}: {text}" if text else recipe), {**base, **changed}

    def pair(self, recipe: str, question: Mapping[str, Any]) -> tuple[str, str]:
        """The names of the arms before and after the change of a question."""
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
        """Parameters of all trials, seed by seed, so that a design that is stopped has complete pairs."""
        return [{"arm": arm, "seed": seed} for seed in range(self.seeds) for arm in self.arms]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        axes: dict[str, Sequence[Value]] = {"arm": list(self.arms), "seed": list(range(self.seeds))}
        return {name: trial.suggest_categorical(name, values) for name, values in axes.items()}

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        arm = [override(name, value) for name, value in self.arms[str(values["arm"])].items()]
        return [*self.fixed, *arm, f"seed={values['seed']}"]

    def extremes(self) -> list[dict[str, Value]]:
        return [{"arm": arm, "seed": 0} for arm in self.arms]

    def describe(self) -> dict[str, str]:
        arms = {name: " ".join(override(*item) for item in arm.items()) for name, arm in self.arms.items()}
        return arms | {"seed": f"0 to {self.seeds - 1}"}


def stored_design(study: optuna.Study) -> AblationDesign | None:
    """The design of a study, None if it samples."""
    if not (stored := study.user_attrs.get(DESIGN)):
        return None
    return AblationDesign(stored["recipes"], stored["questions"], stored["seeds"], stored["fixed"])


def build_design(spec: Mapping[str, Any], arguments: Sequence[str], data: str) -> AblationDesign:
    """The design of a YAML in conf/search, changed by the arguments of the command line; `data` is the
    name of the choice in conf/data. InputError: an argument gives several values."""
    searched, fixed = split_overrides(arguments)
    if searched:
        raise InputError(f"{searched[0]}: a design has its own arms; search=report searches")
    if not isinstance(spec["seeds"], int) or spec["seeds"] < 2:
        message = "search.design.seeds must be at least 2 for pairs to have a spread"
        raise InputError(f"{message}, got {spec['seeds']}")
    given = {override_key(line) for line in fixed}
    needed = [override(*item) for item in spec["needs"].get(data, {}).items() if item[0] not in given]
    return AblationDesign(spec["recipes"], spec["questions"], spec["seeds"], [*needed, *fixed])
