"""`pneumo confirm NAME`: trains the best trials of a study again with fresh seeds, then evaluates the test
split once."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from pneumo.data.atomic import atomic_path
from pneumo.data.dataset import Dataset, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.console import Advance, Terminal
from pneumo.display.format import decimal, interval, signed_decimal, with_interval
from pneumo.errors import InputError, listed
from pneumo.evaluation.metric_names import METRICS
from pneumo.inference.evaluation_count import record_test_evaluation, test_split_notes
from pneumo.inference.model import load_model
from pneumo.runs import config, identity, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import PLACES
from pneumo.runs.recipe import from_recipe, to_recipe
from pneumo.runs.restore import experiment_of, restore
from pneumo.runs.resume import config_hash
from pneumo.runs.run import run
from pneumo.sweep import attributes, labels
from pneumo.sweep.attributes import STUDY_ID
from pneumo.sweep.folders import folder_of
from pneumo.sweep.objective import logged_name
from pneumo.sweep.storage import StudyStorage, open_study
from pneumo.sweep.study_identity import refuse_other_data
from pneumo.sweep.summary import best_first

FIRST_SEED = 1000  # far from the seeds of the search
# In the working directory, by a name that no packaged choice has: Hydra would prefer the packaged one.
RECIPE = Path("recipes/experiment/confirmed/best.yaml")
COMMAND = "python train.py --config-dir recipes experiment=confirmed/best"


@dataclass(frozen=True)
class ConfirmedTrial:
    """A trial, and the objective (`values`) and run id of each of its runs with a fresh seed."""

    trial: FrozenTrial
    values: Sequence[float]
    runs: Sequence[str]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for a single one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def optimism(self) -> float:
        """How much better the value that the trial was chosen by is than the mean of fresh seeds."""
        return float(self.trial.values[0]) - self.mean

    @property
    def row(self) -> list[str]:
        """Cells of the terminal's table."""
        chosen = [
            f"#{self.trial.number}",
            labels.parameters(self.trial.params),
            decimal(self.trial.values[0]),
        ]
        fresh = f"{decimal(self.mean)} ± {decimal(self.spread)}"
        return [*chosen, fresh, interval((min(self.values), max(self.values))), signed_decimal(self.optimism)]

    @property
    def summary(self) -> dict[str, Any]:
        chosen = {"trial": self.trial.number, "params": self.trial.params, "chosen_by": self.trial.values[0]}
        fresh_seeds = {"mean": self.mean, "sd": self.spread, "optimism": self.optimism}
        return {**chosen, **fresh_seeds, "values": self.values, "runs": self.runs}


class FreshSeedRun(RunCallback):
    """Tags a run of a trial's configuration with another seed, and refuses changed data."""

    def __init__(self, storage: StudyStorage, name: str, tags: Mapping[str, object]):
        self.terminal, self.run_name = Terminal(quiet=True), name
        self.parent = storage.study.user_attrs[attributes.CONFIRM_RUN]
        self.study_id, self._storage = storage.study_id, storage
        self.tags = {**storage.tags, **tags}

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """InputError: the data are no longer those of the study; nothing is trained on them."""
        dataset = load_dataset(source, advance)
        refuse_other_data(self._storage, dataset)
        return dataset


def confirm(url: str, name: str, top: int, seeds: int) -> dict[str, Any]:
    """Trains the `top` best trials with `seeds` fresh seeds each, evaluates the best of them on the test
    split, writes it as a recipe, and returns all results. What an earlier, stopped call has done is not done
    again. InputError: no such study, or nothing in it to confirm."""
    storage = open_study(url, name, directions=None)
    study, terminal = storage.study, Terminal()
    if study.user_attrs.get(attributes.DESIGN):
        raise InputError(f"{name} is an ablation, without a best: pneumo study {name} shows its results")
    chosen = best_first(study)[:top]
    if not chosen:
        raise InputError(f"{name} has no complete trial yet: there is nothing to confirm")
    tracking.connect()
    experiment = experiment_of(chosen[0].user_attrs[attributes.RUN_ID]).mlflow_experiment
    tracking.connect(experiment)
    if attributes.CONFIRM_RUN not in study.user_attrs:
        tags = {**storage.tags, "state": "confirm"}
        about = f"The best {len(chosen)} trials of {name}, trained again with {seeds} fresh seeds each."
        parent = tracking.create_parent_run(experiment, f"{name}-confirm", tags, about)
        study.set_user_attr(attributes.CONFIRM_RUN, parent)
    terminal.say("confirm", f"the best {len(chosen)} of {name}, {seeds} fresh seeds each")
    terminal.line()
    results = [confirm_trial(storage, trial, seeds, terminal) for trial in chosen]
    objective = study.user_attrs[attributes.OBJECTIVE][0]
    terminal.line()
    columns = ["", "parameters", f"{objective}, chosen by", "fresh seeds, mean ± sd", "range", "optimism"]
    terminal.table(columns, [result.row for result in results])
    best = max(results, key=lambda result: (result.mean, -result.trial.number))
    terminal.line()
    tested = test_once(study, best)
    print_test(tested, best, terminal)
    parent = study.user_attrs[attributes.CONFIRM_RUN]
    tracking.end_run(parent, "FINISHED")
    path = write_recipe(study, best, tested, objective)
    tracking.log_text(parent, path.read_text(), "best.yaml")
    terminal.say("written", f"{path}: {COMMAND}")
    confirmed = {"study": name, "objective": objective, "confirmed": [result.summary for result in results]}
    return {**confirmed, "tested": tested, "recipe": str(path)}


def confirm_trial(
    storage: StudyStorage, trial: FrozenTrial, seeds: int, terminal: Terminal
) -> ConfirmedTrial:
    """Trains each seed, or takes over the finished run that this study's confirm began with the same
    configuration and split."""
    study = storage.study
    metric = logged_name(study.user_attrs[attributes.OBJECTIVE][0])
    split_hash = query.find_run(trial.user_attrs[attributes.RUN_ID]).data.tags["split_hash"]
    values, runs = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        experiment = experiment_of(trial.user_attrs[attributes.RUN_ID], {"seed": seed, "fit.test": False})
        same = {"config_hash": config_hash(experiment), "split_hash": split_hash}
        same["mlflow.parentRunId"] = study.user_attrs[attributes.CONFIRM_RUN]
        tags = {"confirms": f"{study.study_name}-{trial.number}", "seed": seed}
        run_id = query.finished_run({**tags, **same}) or train_seed(storage, trial, experiment, tags)
        values.append(query.metrics_of(run_id)[metric])
        runs.append(run_id)
        terminal.line(f" #{trial.number:<3}  seed {seed}  {decimal(values[-1])}")
    return ConfirmedTrial(trial, values, runs)


def train_seed(
    storage: StudyStorage, trial: FrozenTrial, experiment: Experiment, tags: Mapping[str, object]
) -> str:
    study, seed = storage.study, experiment.seed
    name = f"{study.study_name}-{trial.number}-seed-{seed}"
    callback = FreshSeedRun(storage, name, tags)
    run(experiment, folder_of(study) / "confirm" / f"{trial.number}-{seed}", callback)
    return str(callback.run_id)


def test_once(study: optuna.Study, best: ConfirmedTrial) -> dict[str, Any]:
    """Test metrics with intervals: those in the study if its confirm has evaluated the test split before,
    else of the best run of the best trial."""
    stored: dict[str, Any] | None = study.user_attrs.get(attributes.TESTED)
    if stored is not None and has_begun(study, stored["run_id"]):
        return stored
    run_id = best.runs[int(np.argmax(best.values))]
    restored = restore(run_id)
    evaluation = restored.evaluate(test=True)["test"]
    n_images = len(evaluation.predictions.labels)
    models = [load_model(run_id)]
    _, *of_others = test_split_notes(models, [n_images], n_images)
    record_test_evaluation(models, [n_images])
    tracking.log_run(run_id, evaluation.named("test"))
    tested = {
        "trial": best.trial.number,
        "run_id": run_id,
        "when": date.today().isoformat(),
        "images": n_images,
        "patients": len(np.unique(evaluation.patients)) if restored.dataset.patients_known else None,
        "others": of_others,  # sentences on evaluations of these images through other runs
        "figures": {name: evaluation.metrics[name] for name in evaluation.intervals},
        "intervals": {name: list(ends) for name, ends in evaluation.intervals.items()},
    }
    study.set_user_attr(attributes.TESTED, tested)
    return tested


def has_begun(study: optuna.Study, run_id: str) -> bool:
    """Whether this study's confirm began the run. Before studies had ids, a run of an older study of the same
    name could be mistaken for it."""
    with suppress(InputError):
        tags = query.find_run(run_id).data.tags
        return bool(tags.get("mlflow.parentRunId") == study.user_attrs[attributes.CONFIRM_RUN])
    return False


def print_test(tested: dict[str, Any], best: ConfirmedTrial, terminal: Terminal) -> None:
    if tested["trial"] != best.trial.number:
        terminal.warn(
            f"The test split was evaluated on {tested['when']} for #{tested['trial']}. It is not evaluated "
            f"for #{best.trial.number}: that would be choosing by it."
        )
    rows = [
        [METRICS[name].in_terminal, decimal(tested["figures"][name]), interval(ends)]
        for name, ends in tested["intervals"].items()
    ]
    title = f"test, {images_of(tested)}, #{tested['trial']}, evaluated once"
    resampled = "patients" if tested["patients"] else "images"
    terminal.table(["", "", f"95% interval ({resampled} resampled)"], rows, title)
    for note in tested.get("others", []):
        terminal.line(note)
    terminal.line()


def images_of(tested: dict[str, Any]) -> str:
    patients = f"of {tested['patients']:,} patients" if tested["patients"] else "of unknown patients"
    return f"{tested['images']:,} images {patients}"


def write_recipe(study: optuna.Study, best: ConfirmedTrial, tested: dict[str, Any], objective: str) -> Path:
    """Writes the best trial as a YAML file of experiment= into the working directory. InputError: the file
    would not compose to that configuration."""
    experiment = experiment_of(best.trial.user_attrs[attributes.RUN_ID])
    path = Path.cwd() / RECIPE
    text = to_recipe(experiment, evidence(study, best, tested, objective))
    if differing := differences(experiment, from_recipe(text, experiment.choices)):
        heading = f"{path} is not written: it would compose to another experiment than the best:"
        raise InputError(listed(heading, differing))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as beside:
        beside.write_text(text)
    return path


def differences(wanted: Experiment, composed: Experiment) -> list[str]:
    """A line for each setting in which two experiments differ, except the seed."""
    known = {**config.default_parameters(wanted), **wanted.parameters, "seed": composed.seed}
    places = [
        f"{name}: confirmed {known.get(name)}, composed {composed.parameters.get(name)}"
        for name in (*PLACES, "tta")
        if known.get(name) != composed.parameters.get(name)
    ]
    names = known.keys() & (composed.parameters.keys() | wanted.parameters.keys())
    shared = {name: known[name] for name in names}
    return [*identity.differing(shared, composed.parameters), *places]


def evidence(study: optuna.Study, best: ConfirmedTrial, tested: dict[str, Any], objective: str) -> list[str]:
    """The comment lines of a recipe: its command, its study, and the results that it rests on."""
    tags = query.find_run(best.trial.user_attrs[attributes.RUN_ID]).data.tags
    best_value, values = decimal(best.trial.values[0]), ", ".join(map(decimal, best.values))
    lines = [
        COMMAND,
        f"{date.today().isoformat()}: the best of the study {study.study_name} (id "
        f"{study.user_attrs[STUDY_ID]}), trial {best.trial.number}.",
        f"It was chosen by {objective} {best_value}; {len(best.values)} fresh seeds gave "
        f"{decimal(best.mean)} (sd {decimal(best.spread)}): {values}.",
        f"Configuration {tags.get('config_hash')}, data {tags.get('data_identity')}, "
        f"split {tags.get('split_hash')}.",
    ]
    if tested["trial"] == best.trial.number:
        lines.append(
            f"Test AUROC {with_interval(tested['figures']['auroc'], tested['intervals']['auroc'])}, "
            f"{images_of(tested)}, run {tested['run_id']}."
        )
    return lines
