"""What a study searches: distributions by the name of the override they set, in Hydra's own grammar."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from pneumo.errors import InputError
from pneumo.runs.config import STUDY, key_of

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Conditional:
    """A parameter that exists only where others have certain values."""

    when: Mapping[str, Sequence[Value]]
    distribution: BaseDistribution

    def holds(self, values: Mapping[str, Value]) -> bool:
        return all(any(same(values.get(name), v) for v in allowed) for name, allowed in self.when.items())


@dataclass(frozen=True)
class SearchSpace:
    always: Mapping[str, BaseDistribution]
    conditional: Mapping[str, Conditional]
    settled: Mapping[str, Value]  # what the rest of the configuration says of the names in conditions
    fixed: Sequence[str]  # overrides as typed
    enqueue: Sequence[Mapping[str, Value]] = ()
    leaves_out: Sequence[str] = field(default=())  # why given trials cannot be enqueued

    size: None = None  # as many trials as one likes

    @property
    def queue(self) -> list[dict[str, Value]]:
        return [dict(values) for values in self.enqueue]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """The parameters of a trial, by the names of the overrides."""
        values = {name: trial._suggest(name, distribution) for name, distribution in self.always.items()}
        for name, conditional in self.conditional.items():
            if conditional.holds({**self.settled, **values}):
                values[name] = trial._suggest(name, conditional.distribution)
        return values

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """What Hydra composes the job from."""
        return [*self.fixed, *(override(name, value) for name, value in values.items())]

    def extremes(self) -> list[dict[str, Value]]:
        """Small sets of values that together touch every choice and both ends of every interval."""
        sets: list[dict[str, Value]] = []
        for name, distribution in self.always.items():
            sets += [{name: value} for value in ends(distribution)]
        for name, conditional in self.conditional.items():
            where = {
                key: allowed[0]
                for key, allowed in conditional.when.items()
                if key in self.always and not conditional.holds(self.settled)
            }
            if where or conditional.holds(self.settled):
                sets += [{**where, name: value} for value in ends(conditional.distribution)]
        return sets

    def described(self) -> dict[str, str]:
        """Readable, and equal for equal spaces."""
        lines = {name: worded(distribution) for name, distribution in self.always.items()}
        for name, conditional in self.conditional.items():
            when = " and ".join(
                f"{key} is {' or '.join(map(str, allowed))}" for key, allowed in conditional.when.items()
            )
            lines[name] = f"{worded(conditional.distribution)}, where {when}"
        return lines


def space_of(
    always: Mapping[str, str],
    conditional: Mapping[str, str],
    exists_where: Mapping[str, Mapping[str, Sequence[Value]]],
    enqueue: Iterable[Mapping[str, Value]],
    arguments: Sequence[str],
    settled: Mapping[str, Value],
) -> SearchSpace:
    """From a search's YAML and what was typed, which wins; a name in `exists_where` is searched where it
    exists. InputError: no distribution, or an empty one."""
    searched, fixed = split_overrides(arguments)
    taken = {key_of(line) for line in fixed}
    words = {name: ranges for name, ranges in {**always, **conditional}.items() if name not in taken}
    words |= dict(parts(line) for line in searched)
    if not words:
        raise InputError("Nothing is searched: every parameter of the space is fixed on the command line")
    words |= {  # a value for wherever the parameter exists
        name: f"choice({value})"
        for name, value in map(parts, fixed)
        if words.keys() & exists_where.get(name, {}).keys()
    }
    known = {name: distribution(name, ranges) for name, ranges in words.items()}
    conditions = {name: exists_where[name] for name in known if name in exists_where}
    space = SearchSpace(
        always={name: found for name, found in known.items() if name not in conditions},
        conditional={name: Conditional(when, known[name]) for name, when in conditions.items()},
        settled={name: settled[name] for when in conditions.values() for name in when if name in settled},
        fixed=[line for line in fixed if key_of(line) not in conditions],
    )
    return with_queue(space, enqueue)


def parts(override: str) -> tuple[str, str]:
    return key_of(override), override.partition("=")[2]


def with_queue(space: SearchSpace, enqueue: Iterable[Mapping[str, Value]]) -> SearchSpace:
    """Given trials without the parameters that are not searched; those that lie outside are left out."""
    queue: list[dict[str, Value]] = []
    notes: list[str] = []
    for given in enqueue:
        values: dict[str, Value] = {}
        reachable = {**space.always, **{name: c.distribution for name, c in space.conditional.items()}}
        outside = []
        for name, value in given.items():
            if name in reachable:
                if (found := coerced(reachable[name], value)) is None:
                    outside.append(f"{name}={value} is not in {worded(reachable[name])}")
                else:
                    values[name] = found[0]
        if outside:
            notes.append(f"not enqueued: {'; '.join(outside)}")
        elif values:
            queue.append(values)
    return SearchSpace(space.always, space.conditional, space.settled, space.fixed, queue, notes)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that name several values, and those that name one. InputError: a key of the study is swept."""
    searched, fixed = [], []
    for line, parsed in zip(
        arguments, OverridesParser.create().parse_overrides(list(arguments)), strict=True
    ):
        if not parsed.is_sweep_override():
            fixed.append(line)
        elif key_of(line).split(".")[0] in STUDY:
            raise InputError(f"{line}: one study has one {key_of(line)}; several are several commands")
        else:
            searched.append(line)
    return searched, fixed


def distribution(name: str, words: str) -> BaseDistribution:
    """InputError: the words are not a range of values, or there is none in it."""
    try:
        searched, fixed, _ = create_params_from_overrides([f"{name}={words}"])
    except (HydraException, ValueError, AssertionError) as error:
        raise InputError(f"{name}={words}: {' '.join(str(error).split())}") from None
    if fixed:
        raise InputError(f"{name}={words} is one value; to search it say choice(...) or interval(...)")
    found: BaseDistribution = searched[name]
    return found


def coerced(distribution: BaseDistribution, value: Value) -> tuple[Value] | None:
    """The value as the distribution holds it; None where it does not."""
    if isinstance(distribution, CategoricalDistribution):
        return next(((choice,) for choice in distribution.choices if same(choice, value)), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return (value,) if distribution._contains(float(value)) else None


def ends(distribution: BaseDistribution) -> list[Value]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def worded(distribution: BaseDistribution) -> str:
    """1e-4 to 1e-1, log · or its choices"""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(str(choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = f", step {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low:g} to {distribution.high:g}{step}{', log' if distribution.log else ''}"


def same(one: Value, other: Value) -> bool:
    """As YAML and the command line both may have written it."""
    numbers = [v for v in (one, other) if isinstance(v, int | float) and not isinstance(v, bool)]
    return one == other if len(numbers) == 2 else str(one).lower() == str(other).lower()


def override(name: str, value: Value) -> str:
    return f"{name}={'null' if value is None else value}"
