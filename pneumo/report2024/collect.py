"""Chooses the runs in MLflow that reproduce the report's experiments, and their controls."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pneumo.report2024.published import EXPERIMENTS
from pneumo.runs.identity import BESIDE
from pneumo.runs.logged import THRESHOLD, is_constant
from pneumo.runs.overrides import override_key
from pneumo.runs.query import RunRecord, data_identity

RECOMMENDED = "recommended"
CONTROL = "safe"  # the augment of a control
OTHER_PURPOSES = ("study", "confirms", "reproduces")  # tags of runs that are no reproduction of the report
WITHOUT_EFFECT = {*BESIDE, "augment"} - {"tta"}


@dataclass(frozen=True)
class ExperimentPair:
    """The latest unchanged run of one of the report's experiments, and the latest control: a run that differs
    from it in the augmentation alone. The commands train what is missing."""

    experiment: str
    unchanged: RunRecord | None
    control: RunRecord | None
    unchanged_command: str
    control_command: str

    @property
    def runs(self) -> list[RunRecord]:
        """Those of the two that exist."""
        return [run for run in (self.unchanged, self.control) if run]

    @property
    def missing(self) -> list[str]:
        """The commands that train those that do not exist."""
        both = ((self.unchanged, self.unchanged_command), (self.control, self.control_command))
        return [command for run, command in both if run is None]


@dataclass(frozen=True)
class CollectedRuns:
    pairs: tuple[ExperimentPair, ...]  # in the report's order
    recommended: RunRecord | None
    recommended_command: str
    n_on_other_data: int = 0  # runs of these experiments on other images, labels or patients, left out

    @property
    def runs(self) -> list[RunRecord]:
        """All runs that exist, the recommended one last."""
        runs = [run for pair in self.pairs for run in pair.runs]
        return runs + ([self.recommended] if self.recommended else [])

    @property
    def missing(self) -> list[str]:
        """The commands that train all runs that do not exist."""
        commands = [command for pair in self.pairs for command in pair.missing]
        return commands + ([] if self.recommended else [self.recommended_command])


def collect_runs(runs: Sequence[RunRecord]) -> CollectedRuns:
    """Chooses from finished runs, the latest first. All chosen runs are on the data of the latest run of one
    of the report's experiments, so that they can be compared."""
    of_recipes = [run for run in runs if is_recipe_run(run)]
    named = [run for run in of_recipes if experiment_of(run) in (*EXPERIMENTS, RECOMMENDED)]
    newest = next((run for run in named if experiment_of(run) != RECOMMENDED), named[0] if named else None)
    usable = [run for run in of_recipes if newest and data_identity(run.tags) == data_identity(newest.tags)]
    unchanged = {name: latest_run(usable, name, "report") for name in EXPERIMENTS}
    existing = next((run for run in unchanged.values() if run), None)
    shared = [word for word in overrides(existing) if override_key(word) != "experiment"] if existing else []
    pairs = []
    for name, run in unchanged.items():
        words = overrides(run) if run else [f"experiment={name}", *shared]
        control = next((other for other in usable if run and is_control(other, run)), None)
        commands = (train_command(words), train_command([*words, f"augment={CONTROL}"]))
        pairs.append(ExperimentPair(name, run, control, *commands))
    data = [word for word in shared if override_key(word).split(".")[0] == "data"]
    return CollectedRuns(
        tuple(pairs),
        recommended=latest_run(usable, RECOMMENDED),
        recommended_command=train_command([f"experiment={RECOMMENDED}", *data]),
        n_on_other_data=sum(run not in usable for run in named),
    )


def latest_run(runs: Sequence[RunRecord], experiment: str, augment: str | None = None) -> RunRecord | None:
    """The first run of this experiment; if `augment` is given, of this augmentation without own settings."""
    for run in runs:
        changed = any(override_key(word).startswith("augment.") for word in overrides(run))
        if experiment_of(run) == experiment and (
            augment is None or (run.tags.get("augment") == augment and not changed)
        ):
            return run
    return None


def is_control(other: RunRecord, run: RunRecord) -> bool:
    """Whether the other run has augment=safe and equals the run in everything else that has an effect."""
    same_data = ("split_hash", "data_key", "split_identity")
    return (
        other.tags.get("augment") == CONTROL
        and all(other.tags.get(tag) == run.tags.get(tag) for tag in same_data)
        and effective_parameters(other) == effective_parameters(run)
    )


def effective_parameters(run: RunRecord) -> dict[str, str]:
    """Its parameters without the augmentation and without those that have no effect on the result."""
    return {
        name: value
        for name, value in run.parameters.items()
        if name not in WITHOUT_EFFECT
        and not is_constant(name)
        and not name.startswith(("augment.", "tracking."))
    }


def overrides(run: RunRecord) -> list[str]:
    """The Hydra overrides that the run was started with."""
    return run.tags.get("overrides", "").split()


def experiment_of(run: RunRecord) -> str | None:
    """NAME of the last override experiment=NAME."""
    named = [word.split("=", 1)[1] for word in overrides(run) if override_key(word) == "experiment"]
    return named[-1] if named else None


def is_recipe_run(run: RunRecord) -> bool:
    """Whether it is a complete run that is no trial, confirmation, reproduction or debug run."""
    return (
        not any(tag in run.tags for tag in OTHER_PURPOSES)
        and not any(override_key(word) in ("debug", "fit.few_images") for word in overrides(run))
        and THRESHOLD in run.metrics
    )


def train_command(words: Sequence[str]) -> str:
    return f"python train.py {shlex.join(words)}"
