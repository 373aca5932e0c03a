"""The best of the runs that can be compared by their validation AUROC."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pneumo.display.format import decimal
from pneumo.errors import InputError, listed
from pneumo.runs import query
from pneumo.runs.query import RunRecord, data_identity, split_number
from pneumo.runs.run_name import SHORTEST_PREFIX
from pneumo.runs.tracking import store_name

KNOWN_LEAKS = (  # beginnings of the tag leak_risk; a mere risk, such as unknown patients, is not among them
    *("image split", "patients shared by the column", "judged on its training images", "pretrained on"),
)
FEWEST_POSITIVES = 20  # of a validation split; an AUROC of fewer says little
VAL_AUROC = "best/val_auroc"
CHECKS = {"debug", "few images", "reproduction"}  # obstacles of runs that were never meant to be the best
AnyOf = Mapping[str, str]  # "data", "study" or "" (any of them) -> the name that a run must have there


def best_run(among: AnyOf | None = None, where_several: str | None = None) -> RunRecord:
    """The run with the highest validation AUROC among comparable runs (see `obstacles`) of one data set.
    `among` restricts them: by `data`, the name of their data (phantom); by `study`, a study's name or id; by
    `""`, any of these or the first digits of a data identity. `where_several` names the data to take where
    runs of several remain. InputError: no run remains; runs of several data sets do; or those of
    some data collapsed and none there remains, so that other data may be meant."""
    among = among or {}
    of = "".join(f" of {name}" for name in among.values())
    here = f"MLflow at {store_name()}"
    found = query.trainings()
    trainings = [run for run in found if belongs_to(run, among)]
    if not trainings:
        names = sorted(names_of_data(found))
        there = f"; there are runs of {', '.join(names)}" if names else ""
        raise InputError(f"{here} has no finished run{of}: train one first{there}")
    reasons = [obstacles(run) for run in trainings]
    comparable = [run for run, those in zip(trainings, reasons, strict=True) if not those]
    if not comparable:
        counted = Counter(those[0] for those in reasons).most_common()
        explained = {
            "few positives": f"with fewer than {FEWEST_POSITIVES} positive validation images",
            "reproduction": "made by pneumo reproduce",
        }
        left_out = ", ".join(f"{count:,} {explained.get(reason, reason)}" for reason, count in counted)
        raise InputError(
            f"{here} has no run{of} that can be chosen as best: of {len(trainings):,}, left out are "
            f"{left_out}. Name one by its name or id; `pneumo runs` lists them"
        )
    comparable.sort(key=lambda run: -run.metrics[VAL_AUROC])
    collapsed = [
        run
        for run, those in zip(trainings, reasons, strict=True)
        if "collapsed" in those and not CHECKS.intersection(those)
    ]
    nothing_else = names_of_data(collapsed) - names_of_data(comparable)
    if where_several in names_of_data(comparable):
        comparable = [run for run in comparable if run.tags.get("data") == where_several]
        nothing_else = set()
    best_of: dict[str, RunRecord] = {}
    for run in comparable:
        best_of.setdefault(data_identity(run.tags), run)
    if nothing_else:
        of_these = ", ".join(sorted(nothing_else))
        heading = f"No run of {of_these} can be best, since they collapsed. To take other data, name them:"
        raise InputError(listed(heading, choices(list(best_of.values()))))
    if len(best_of) > 1:
        heading = f"There are runs of {len(best_of)} data sets, whose AUROCs cannot be compared. Name one:"
        raise InputError(listed(heading, choices(list(best_of.values()))))
    return comparable[0]


def names_of_data(runs: Sequence[RunRecord]) -> set[str]:
    return {run.tags.get("data", "?") for run in runs}


def choices(best: Sequence[RunRecord]) -> list[str]:
    """A line for the best run of each data set, which begins with the name to give."""
    names = Counter(run.tags.get("data") for run in best)
    alike = [run for run in best if names[run.tags.get("data")] > 1]
    keys = sorted({key for run in alike for key in run.parameters if key.startswith("data.")})
    differ = [key for key in keys if len({run.parameters.get(key) for run in alike}) > 1]
    lines = []
    for run in best:
        name = run.tags.get("data")
        key = name if names[name] == 1 else data_identity(run.tags)[:10]
        images = sum(split_number(run, f"{split}_images") or 0 for split in ("train", "val", "test"))
        settings = "".join(
            f", {k}={run.parameters[k]}" for k in differ if run in alike and k in run.parameters
        )
        lines.append(
            f"best@{key:<10}  {name}, {images:,} images{settings}: {run.name}, "
            f"val AUROC {decimal(run.metrics[VAL_AUROC])}"
        )
    return lines


def obstacles(run: RunRecord) -> list[str]:
    """Why the validation AUROC of a run cannot be compared with that of others of the same data, a word or
    two each. There is none if the run was trained and evaluated on all of them, no image or patient is known
    to be in two splits, it has not collapsed, FEWEST_POSITIVES of its validation images are positive, and it
    is no reproduction of another run, which would compete with itself."""
    tags, positives = run.tags, split_number(run, "val_positives")
    risks = tags.get("leak_risk", "none").split("; ")
    found = {
        "not finished": run.status != "FINISHED" or not {"threshold", VAL_AUROC} <= run.metrics.keys(),
        "collapsed": tags.get("collapsed") == "true",
        "leaking": any(risk.startswith(KNOWN_LEAKS) for risk in risks),
        "debug": "debug=" in tags.get("overrides", ""),
        "reproduction": "reproduces" in tags,
        "few images": run.parameters.get("fit.few_images", "None") != "None",
        "few positives": positives is not None and positives < FEWEST_POSITIVES,
    }
    return [name for name, holds in found.items() if holds]


def belongs_to(run: RunRecord, among: AnyOf) -> bool:
    """Whether `among` (see `best_run`) includes a run."""
    tags = run.tags
    of = {"data": [tags.get("data")], "study": [tags.get("study"), tags.get("study_id")]}
    every = [*of["data"], *of["study"]]

    def is_of(kind: str, name: str) -> bool:
        if kind:
            return name in of[kind]
        is_identity = len(name) >= SHORTEST_PREFIX and data_identity(tags).startswith(name)
        return name in every or is_identity

    return all(is_of(kind, name) for kind, name in among.items())
