"""A designed experiment: each question changes one thing in each recipe and is answered by pairs of runs that
share their seeds, once at the same learning rate and once with each side at its own best rate.

    search.design:
      seeds: 6                                      pairs a question
      tuning_seeds: 2                               other seeds, by which an arm's own best rate is chosen
      needs: {phantom: {name: value}}               overrides that a choice of data needs
      styles: {phantom: [default, crisp]}           data.style of the seeds, in turns
      rates: {sgd: [1e-3, 1e-2], adamw: [...]}      learning rates to choose from, by optimizer
      recipes: {report: {name: value}, ...}         overrides that the questions start from
      questions:
        - concluded: 5 larger batch
          tested: 6 → 48
          before: {name: value}
          after: {name: value}
          outcome: auroc                            or another of OUTCOMES in effects.py
          own_rates: false                          where the question is about the rate, or about the time
          interacts_with: {name: value}             how much more `after` changes with these than without
          recipes: [report]                         where not all

An arm is a recipe with one side of a question, before or after; equal arms are run once. Nothing is sampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import optuna
from optuna.trial import Trial

from pneumo.errors import InputError
from pneumo.runs.overrides import override_key
from pneumo.sweep.attributes import DESIGN
from pneumo.sweep.search_space import Value, override, split_overrides

Question = Mapping[str, Any]
LR, STYLE = "optimizer.lr", "data.style"
SAME, OWN = "same", "own"  # rate of a trial: its arm's as it stands, or its best; else a number that is tried
FIRST_TUNING_SEED = 100


@dataclass(frozen=True)
class AblationDesign:
    recipes: Mapping[str, Mapping[str, Value]]
    questions: Sequence[Question]
    seeds: int
    fixed: Sequence[str]  # overrides of the command line: they win over a recipe, a question over them
    tuning_seeds: int = 0
    rates: Mapping[str, Sequence[float]] = field(default_factory=dict)
    styles: Sequence[str] = ()
    exists_where: Mapping[str, Mapping[str, Sequence[Value]]] = field(default_factory=dict)  # see conf/search

    notes: ClassVar[Sequence[str]] = ()  # as of a SearchSpace

    def arm(self, recipe: str, *sides: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
        """The name of an arm, e.g. `report: optimizer.lr=0.0001`, and its overrides."""
        fixed = {override_key(line) for line in self.fixed}
        base = {name: value for name, value in self.recipes[recipe].items() if name not in fixed}
        side = {name: value for each in sides for name, value in each.items()}
        changed = {name: value for name, value in side.items() if base.get(name) != value}
        text = " ".join(override(name, value) for name, value in changed.items())
        arm = {**base, **changed}
        choices = {**self._fixed_values, **arm}
        existing = {name: value for name, value in arm.items() if self._exists(name, choices)}
        return (f"{recipe}: {text}" if text else recipe), existing

    @property
    def _fixed_values(self) -> dict[str, Value]:
        return {override_key(line): line.partition("=")[2] for line in self.fixed}

    def _exists(self, name: str, choices: Mapping[str, Value]) -> bool:
        """Whether a setting exists with these choices: one of model=tiny is left out with another network."""
        when = self.exists_where.get(name, {})
        return all(choices.get(group, allowed[0]) in allowed for group, allowed in when.items())

    def pair(self, recipe: str, question: Question, with_interaction: bool = False) -> tuple[str, str]:
        """The names of the arms before and after the change of a question, both with what it interacts with
        if that is asked for."""
        more = question["interacts_with"] if with_interaction else {}
        before, after = (self.arm(recipe, question[side], more)[0] for side in ("before", "after"))
        return before, after

    def recipes_of(self, question: Question) -> list[str]:
        """The recipes that a question is asked of."""
        only = question.get("recipes")
        return [recipe for recipe in self.recipes if only is None or recipe in only]

    @cached_property
    def arms(self) -> dict[str, dict[str, Value]]:
        sides: list[tuple[str, list[Mapping[str, Value]]]] = [(recipe, [{}]) for recipe in self.recipes]
        for question in self.questions:
            more = [{}, *([question["interacts_with"]] if "interacts_with" in question else [])]
            for recipe in self.recipes_of(question):
                sides += [(recipe, [question[side], each]) for each in more for side in ("before", "after")]
        named = dict(self.arm(recipe, *changes) for recipe, changes in sides)
        return {arm: named[arm] for recipe in self.recipes for arm in named if recipe_of(arm) == recipe}

    def has_own_rates(self, question: Question) -> bool:
        """Whether a question is also answered with each side at its own best rate."""
        sides = {**question["before"], **question["after"]}
        asked = question.get("own_rates", True) and LR not in sides and "interacts_with" not in question
        return bool(asked and self.rates and self.tuning_seeds)

    @cached_property
    def tuned_arms(self) -> list[str]:
        """The arms whose own best rate is looked for."""
        asked = [question for question in self.questions if self.has_own_rates(question)]
        arms = {arm for each in asked for recipe in self.recipes_of(each) for arm in self.pair(recipe, each)}
        return [arm for arm in self.arms if arm in arms]

    def rates_of(self, arm: str) -> list[float]:
        """The learning rates that an arm's own is chosen from. The middle ones come first: they are likely to
        be good, so that the others can be stopped early."""
        optimizer = str(self.arms[arm].get("optimizer", self._fixed_values.get("optimizer", "")))
        grid = sorted(self.rates.get(optimizer) or {rate for rates in self.rates.values() for rate in rates})
        middle = (len(grid) - 1) / 2
        return sorted(grid, key=lambda rate: abs(grid.index(rate) - middle))

    @property
    def size(self) -> int:
        return len(self.queue)

    @cached_property
    def queue(self) -> list[dict[str, Value]]:
        """Parameters of all trials: the choice of rates first; then seed by seed, so that a design that is
        stopped has complete pairs."""
        tuning: list[dict[str, Value]] = [
            {"arm": arm, "seed": seed, "rate": f"{rate:g}"}
            for seed in self.every_tuning_seed
            for arm in self.tuned_arms
            for rate in self.rates_of(arm)
        ]
        if not tuning:
            return [{"arm": arm, "seed": seed} for seed in range(self.seeds) for arm in self.arms]
        judged: list[dict[str, Value]] = [
            {"arm": arm, "seed": seed, "rate": rate}
            for seed in range(self.seeds)
            for rate, arms in ((SAME, list(self.arms)), (OWN, self.tuned_arms))
            for arm in arms
        ]
        return [*tuning, *judged]

    @property
    def every_tuning_seed(self) -> range:
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds)

    def style_of(self, seed: int) -> str | None:
        """The data.style of a seed: seeds take turns."""
        return self.styles[seed % len(self.styles)] if self.styles else None

    def suggest(self, trial: Trial) -> dict[str, Value]:
        axes: dict[str, list[Value]] = {"arm": [], "seed": [], "rate": []}
        for values in self.queue:
            for name, value in values.items():
                if value not in axes[name]:
                    axes[name].append(value)
        return {name: trial.suggest_categorical(name, values) for name, values in axes.items() if values}

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """`values` are those of a trial, `rate` a number once an arm's own is known (see rates.py)."""
        arm = dict(self.arms[str(values["arm"])])
        if values.get("rate", SAME) not in (SAME, OWN):
            arm[LR] = float(str(values["rate"]))
        if (style := self.style_of(int(str(values["seed"])))) is not None:
            arm[STYLE] = style
        of_arm = [override(name, value) for name, value in arm.items()]
        return [*self.fixed, *of_arm, f"seed={values['seed']}"]

    def extremes(self) -> list[dict[str, Value]]:
        return [{"arm": arm, "seed": 0, "rate": SAME} for arm in self.arms]

    def describe(self) -> dict[str, str]:
        arms = {name: " ".join(override(*item) for item in arm.items()) for name, arm in self.arms.items()}
        described = arms | {"seed": f"0 to {self.seeds - 1}"}
        if self.tuned_arms:
            rates = "; ".join(f"{name}: {', '.join(f'{r:g}' for r in v)}" for name, v in self.rates.items())
            described |= {"own rate": f"of {rates}, by {self.tuning_seeds} seeds of their own"}
        if self.styles:
            described |= {STYLE: f"{', '.join(self.styles)}, seed by seed"}
        return described


def recipe_of(arm: str) -> str:
    return arm.split(":")[0]


def stored_design(study: optuna.Study) -> AblationDesign | None:
    """The design of a study, None if it samples. Those of older versions have no rates of their own."""
    if not (stored := study.user_attrs.get(DESIGN)):
        return None
    known = AblationDesign.__dataclass_fields__
    return AblationDesign(**{name: value for name, value in stored.items() if name in known})


def build_design(
    spec: Mapping[str, Any],
    arguments: Sequence[str],
    data: str,
    exists_where: Mapping[str, Mapping[str, Sequence[Value]]] | None = None,
) -> AblationDesign:
    """The design of a YAML in conf/search, changed by the arguments of the command line; `data` is the
    name of the choice in conf/data, `exists_where` says with which choices a setting exists. InputError: an
    argument gives several values, or there are too few seeds."""
    searched, fixed = split_overrides(arguments)
    if searched:
        raise InputError(f"{searched[0]}: a design has its own arms; search=report searches")
    if not isinstance(spec["seeds"], int) or spec["seeds"] < 2:
        message = "search.design.seeds must be at least 2 for pairs to have a spread"
        raise InputError(f"{message}, got {spec['seeds']}")
    given = {override_key(line) for line in fixed}
    needed = [override(*item) for item in spec["needs"].get(data, {}).items() if item[0] not in given]
    styles = [] if STYLE in given else spec.get("styles", {}).get(data, [])
    return AblationDesign(
        recipes=spec["recipes"],
        questions=spec["questions"],
        seeds=spec["seeds"],
        fixed=[*needed, *fixed],
        tuning_seeds=spec.get("tuning_seeds", 0),
        rates=spec.get("rates", {}),
        styles=styles,
        exists_where=exists_where or {},
    )
