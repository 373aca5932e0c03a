"""Which runs in MLflow are the report's, and which are their controls."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pneumo.report2024.published import EXPERIMENTS
from pneumo.runs import config
from pneumo.runs.identity import BESIDE
from pneumo.runs.query import RunRecord, data_identity

RECOMMENDED = "recommended"
CONTROL = "safe"  # the augment of a control
ELSEWHERE = ("study", "confirms", "reproduces")  # tags of runs that answer something else
WITHOUT_EFFECT = {*BESIDE, "augment"} - {"tta"}


@dataclass(frozen=True)
class Pair:
    """One of the report's experiments: the latest run of it, and the latest that differs from that one in
    the augment alone. The commands make what is not there."""

    experiment: str
    own: RunRecord | None
    control: RunRecord | None
    own_command: str
    control_command: str

    @property
    def missing(self) -> list[str]:
        both = ((self.own, self.own_command), (self.control, self.control_command))
        return [command for run, command in both if run is None]


@dataclass(frozen=True)
class CollectedRuns:
    pairs: tuple[Pair, ...]  # in the report's order
    recommended: RunRecord | None
    recommended_command: str
    n_on_other_data: int = 0  # runs of these names that are left out: on other images, labels or patients

    @property
    def runs(self) -> list[RunRecord]:
        """All that are there."""
        both = (run for pair in self.pairs for run in (pair.own, pair.control))
        return [run for run in (*both, self.recommended) if run is not None]

    @property
    def missing(self) -> list[str]:
        """The commands of those that are not."""
        pairs = [command for pair in self.pairs for command in pair.missing]
        return pairs + ([] if self.recommended else [self.recommended_command])


def collect_runs(runs: Sequence[RunRecord]) -> CollectedRuns:
    """Of finished runs, the latest first: those on the data of the latest of the report's experiments, so
    that all on the page can be compared."""
    of_recipes = [run for run in runs if is_of_a_recipe(run)]
    named = [run for run in of_recipes if experiment_of(run) in (*EXPERIMENTS, RECOMMENDED)]
    first = next((run for run in named if experiment_of(run) != RECOMMENDED), named[0] if named else None)
    usable = [run for run in of_recipes if first and data_identity(run.tags) == data_identity(first.tags)]
    others = sum(run not in usable for run in named)
    recommended = latest(usable, RECOMMENDED)
    own = {name: latest(usable, name, "report") for name in EXPERIMENTS}
    there = [run for run in own.values() if run]
    like = [word for word in typed(there[0]) if config.override_key(word) != "experiment"] if there else []
    pairs = []
    for name in EXPERIMENTS:
        run = own[name]
        words = typed(run) if run else [f"experiment={name}", *like]
        control = next((other for other in usable if run and is_control(other, run)), None)
        pairs.append(Pair(name, run, control, command(words), command([*words, f"augment={CONTROL}"])))
    data = [word for word in like if config.override_key(word).split(".")[0] == "data"]
    return CollectedRuns(tuple(pairs), recommended, command([f"experiment={RECOMMENDED}", *data]), others)


def latest(runs: Sequence[RunRecord], experiment: str, augment: str | None = None) -> RunRecord | None:
    """The first of this name, with this augment just as it is."""
    for run in runs:
        changed = any(config.override_key(word).startswith("augment.") for word in typed(run))
        if experiment_of(run) == experiment and (
            augment is None or (run.tags.get("augment") == augment and not changed)
        ):
            return run
    return None


def is_control(other: RunRecord, run: RunRecord) -> bool:
    """The same in everything that has an effect, but for the augment."""
    return (
        other.tags.get("augment") == CONTROL
        and all(
            other.tags.get(tag) == run.tags.get(tag) for tag in ("split_hash", "data_key", "split_identity")
        )
        and settings(other) == settings(run)
    )


def settings(run: RunRecord) -> dict[str, str]:
    """Its parameters, without the augment and what has no effect on the result."""
    apart = ("augment.", "tracking.")
    return {
        name: value
        for name, value in run.parameters.items()
        if name not in WITHOUT_EFFECT and not name.startswith(apart)
    }


def typed(run: RunRecord) -> list[str]:
    return run.tags.get("overrides", "").split()


def experiment_of(run: RunRecord) -> str | None:
    named = [word.split("=", 1)[1] for word in typed(run) if config.override_key(word) == "experiment"]
    return named[-1] if named else None


def is_of_a_recipe(run: RunRecord) -> bool:
    """Rather than of a study, of something tried, or of another program."""
    return (
        not any(tag in run.tags for tag in ELSEWHERE)
        and not any(config.override_key(word) in ("debug", "fit.few_images") for word in typed(run))
        and "threshold" in run.metrics
    )


def command(words: Sequence[str]) -> str:
    return "python train.py " + " ".join(shlex.quote(word) for word in words)
