"""A designed experiment: named arms, each run with every seed. Nothing is sampled.

    search.design:
      seeds: 5
      arms: {name: [override, ...], ...}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import Trial

from pneumo.errors import InputError
from pneumo.sweep.space import Value, split_overrides


@dataclass(frozen=True)
class Design:
    arms: Mapping[str, Sequence[str]]
    seeds: int
    fixed: Sequence[str]  # overrides as typed: they come last and win
    leaves_out: Sequence[str] = ()

    @property
    def size(self) -> int:
        return len(self.arms) * self.seeds

    @property
    def queue(self) -> list[dict[str, Value]]:
        """Seed by seed, so that a design that is stopped has whole pairs."""
        return [{"arm": arm, "seed": seed} for seed in range(self.seeds) for arm in self.arms]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        return {name: trial._suggest(name, distribution) for name, distribution in self._axes.items()}

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        return [*self.arms[str(values["arm"])], f"seed={values['seed']}", *self.fixed]

    def extremes(self) -> list[dict[str, Value]]:
        return [{"arm": arm, "seed": 0} for arm in self.arms]

    def described(self) -> dict[str, str]:
        return {arm: " ".join(overrides) for arm, overrides in self.arms.items()} | {
            "seed": f"0 to {self.seeds - 1}"
        }

    @property
    def _axes(self) -> dict[str, CategoricalDistribution]:
        return {
            "arm": CategoricalDistribution(list(self.arms)),
            "seed": CategoricalDistribution(list(range(self.seeds))),
        }


def design_of(spec: Mapping[str, Any], arguments: Sequence[str]) -> Design:
    """InputError: something is searched, which a design does not."""
    searched, fixed = split_overrides(arguments)
    if searched:
        raise InputError(f"{searched[0]}: a design has its own arms; search=report searches")
    return Design(spec["arms"], int(spec["seeds"]), fixed)
