"""The search space of a study: a distribution for each searched override, written in Hydra's grammar.

A parameter may be conditional: it exists only where other parameters have certain values.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial

from pneumo.errors import InputError
from pneumo.runs.overrides import override_key
from pneumo.runs.setting_names import nearest
from pneumo.sweep.private_api import parse_distribution

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Parameter:
    """A parameter that is searched, but only where others have certain values, if there are any in `when`."""

    distribution: BaseDistribution
    when: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def exists(self, values: Mapping[str, Value]) -> bool:
        return all(any(is_same(values.get(name), v) for v in allowed) for name, allowed in self.when.items())

    @property
    def condition(self) -> str:
        """E.g. `loss is bce or ce and model is tiny`."""
        return " and ".join(
            f"{key} is {' or '.join(map(str, allowed))}" for key, allowed in self.when.items()
        )

    def describe(self) -> str:
        return describe(self.distribution) + (f", where {self.condition}" if self.when else "")


@dataclass(frozen=True)
class SearchSpace:
    parameters: Mapping[str, Parameter]  # those that exist always, then those under a condition
    defaults: Mapping[str, Value]  # of names in conditions that are not searched
    fixed: Sequence[str]  # overrides of the command line
    queue: Sequence[Mapping[str, Value]] = ()  # parameters of the first trials
    notes: Sequence[str] = ()  # why trials were not queued and parameters left out
    left_out: Mapping[str, Parameter] = field(default_factory=dict)  # exist with no choice of this space

    size: None = None  # a space does not limit the number of trials, as a design does

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """The parameters of a trial, by the names of the overrides."""
        values: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if parameter.exists({**self.defaults, **values}):
                values[name] = suggest(trial, name, parameter.distribution)
        return values

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """The overrides from which Hydra composes a trial's configuration."""
        return [*self.fixed, *(override(name, value) for name, value in values.items())]

    def extremes(self) -> list[dict[str, Value]]:
        """Small sets of values that together touch every choice and both ends of every interval."""
        always = {name for name, parameter in self.parameters.items() if not parameter.when}
        sets: list[dict[str, Value]] = []
        for name, parameter in self.parameters.items():
            exists = parameter.exists(self.defaults)
            where = {} if exists else {key: v[0] for key, v in parameter.when.items() if key in always}
            if exists or where:
                sets += [{**where, name: value} for value in ends(parameter.distribution)]
        return sets

    def describe(self) -> dict[str, str]:
        """A line for each parameter."""
        return {name: parameter.describe() for name, parameter in self.parameters.items()}

    @property
    def identity(self) -> dict[str, str]:
        """A line for each parameter, equal for equal spaces. Those that are left out are in it, as studies of
        older versions have them."""
        return {name: one.describe() for name, one in {**self.parameters, **self.left_out}.items()}


def build_space(
    always: Mapping[str, str],
    conditional: Mapping[str, str],
    exists_where: Mapping[str, Mapping[str, Sequence[Value]]],
    enqueue: Iterable[Mapping[str, Value]],
    arguments: Sequence[str],
    choices: Mapping[str, Value],
) -> SearchSpace:
    """The space of a YAML in conf/search, changed by the arguments of the command line.

    `always` and `conditional` map names to distributions in Hydra's grammar; `exists_where` has the
    conditions, also of names that only the command line searches; `choices` has the values of names that
    are not searched. A parameter of the YAML that exists with none of the choices is left out. InputError: an
    argument is no distribution, or an empty one, or of a parameter that exists with none of the choices;
    nothing is searched; or a trial of `enqueue` sets what is neither searched nor fixed."""
    refuse_not_searched(enqueue, [*always, *conditional, *map(override_key, arguments)])
    searched, fixed = split_overrides(arguments)
    fixed_names = {override_key(line) for line in fixed}
    expressions = {name: text for name, text in {**always, **conditional}.items() if name not in fixed_names}
    expressions |= dict(key_and_value(line) for line in searched)
    if not expressions:
        raise InputError("Nothing is searched: every parameter of the space is fixed on the command line")
    expressions |= {  # a fixed value of a conditional parameter is set only where the parameter exists
        name: f"choice({value})"
        for name, value in map(key_and_value, fixed)
        if expressions.keys() & exists_where.get(name, {}).keys()
    }
    distributions = {name: parse(name, text) for name, text in expressions.items()}
    conditions = {name: exists_where[name] for name in distributions if name in exists_where}
    names = sorted(distributions, key=lambda name: name in conditions)
    all_parameters = {name: Parameter(distributions[name], conditions.get(name, {})) for name in names}
    left_out = {name: p for name, p in all_parameters.items() if not can_exist(p, distributions, choices)}
    refuse_left_out(left_out, arguments)
    parameters = {name: p for name, p in all_parameters.items() if name not in left_out}
    if not parameters:
        raise InputError("Nothing is searched: no parameter of the space exists with the given choices")
    queue, notes = build_queue(enqueue, {name: p.distribution for name, p in parameters.items()})
    return SearchSpace(
        parameters=parameters,
        defaults={name: choices[name] for when in conditions.values() for name in when if name in choices},
        fixed=[line for line in fixed if override_key(line) not in conditions],
        queue=queue,
        notes=[*notes, *(f"not searched: {n} exists only where {p.condition}" for n, p in left_out.items())],
        left_out=left_out,
    )


def can_exist(
    parameter: Parameter, distributions: Mapping[str, BaseDistribution], choices: Mapping[str, Value]
) -> bool:
    """Whether the parameter exists with some values of those that are searched and the fixed choices."""
    return all(
        any(
            contains(distributions[name], value)
            if name in distributions
            else is_same(choices.get(name), value)
            for value in allowed
        )
        for name, allowed in parameter.when.items()
    )


def refuse_left_out(left_out: Mapping[str, Parameter], arguments: Sequence[str]) -> None:
    """InputError: one of these parameters was given on the command line."""
    for line in arguments:
        if (name := override_key(line)) in left_out:
            condition = left_out[name].condition
            raise InputError(
                f"{line}: {name} exists only where {condition}, which no trial has; leave it out"
            )


def key_and_value(override: str) -> tuple[str, str]:
    return override_key(override), override.partition("=")[2]


def refuse_not_searched(enqueue: Iterable[Mapping[str, Value]], names: Collection[str]) -> None:
    for name in (name for given in enqueue for name in given if name not in names):
        meant = nearest(name, names)
        raise InputError(
            f"search.enqueue sets {name}, which is not searched{f'. Did you mean {meant}?' if meant else ''}"
        )


def build_queue(
    enqueue: Iterable[Mapping[str, Value]], distributions: Mapping[str, BaseDistribution]
) -> tuple[list[dict[str, Value]], list[str]]:
    """The trials to enqueue, without parameters that are not searched, once where they are equal without
    these; and a note for each one that lies outside of the space."""
    queue: list[dict[str, Value]] = []
    notes: list[str] = []
    for given in enqueue:
        values: dict[str, Value] = {}
        outside = []
        for name in [name for name in given if name in distributions]:
            try:
                values[name] = to_member(distributions[name], given[name])
            except ValueError:
                outside.append(f"{name}={given[name]} is not in {describe(distributions[name])}")
        if outside:
            notes.append(f"not enqueued: {'; '.join(outside)}")
        elif values and (len(values) == len(given) or values not in queue):
            queue.append(values)
    return queue, notes


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that give several values, and those that give one."""
    searched: list[str] = []
    fixed: list[str] = []
    for line in arguments:
        is_several = OverridesParser.create().parse_override(line).is_sweep_override()
        (searched if is_several else fixed).append(line)
    return searched, fixed


def parse(name: str, expression: str) -> BaseDistribution:
    """InputError: the expression is no distribution in Hydra's grammar, or an empty one."""
    try:
        distribution = parse_distribution(name, expression)
    except (HydraException, ValueError, AssertionError) as error:
        raise InputError(f"{name}={expression}: {' '.join(str(error).split())}") from None
    if distribution is None:
        raise InputError(f"{name}={expression} is one value; to search it, use choice(...) or interval(...)")
    return distribution


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    draw: Any = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
    value: Value = draw(name, low, high, step=step, log=log)
    return value


def to_member(distribution: BaseDistribution, value: Value) -> Value:
    """The value as the distribution spells it. ValueError: it does not contain it."""
    if isinstance(distribution, CategoricalDistribution):
        for choice in distribution.choices:
            if is_same(choice, value):
                return choice
    elif isinstance(value, int | float) and not isinstance(value, bool):
        create_trial(state=TrialState.RUNNING, params={"x": value}, distributions={"x": distribution})
        return value
    raise ValueError(f"{value} is not in {distribution}")


def contains(distribution: BaseDistribution, value: Value) -> bool:
    try:
        to_member(distribution, value)
    except ValueError:
        return False
    return True


def ends(distribution: BaseDistribution) -> list[Value]:
    """All choices, or both ends of an interval."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def describe(distribution: BaseDistribution) -> str:
    """E.g. `0.0001 to 0.1, log` or `ce, bce`. Databases hold these texts as the identity of a space."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(str(choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = f", step {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low:g} to {distribution.high:g}{step}{', log' if distribution.log else ''}"


def is_same(one: Value, other: Value) -> bool:
    """Whether two values are equal, though YAML and the command line may have read them as other types."""
    numbers = [v for v in (one, other) if isinstance(v, int | float) and not isinstance(v, bool)]
    return one == other if len(numbers) == 2 else str(one).lower() == str(other).lower()


def override(name: str, value: Value) -> str:
    """As it is typed, e.g. `fit.rescue=false`."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{name}={text}"
