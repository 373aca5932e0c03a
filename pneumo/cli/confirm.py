"""`pneumo confirm NAME`: the best of a study again with fresh seeds, then the test split, once."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.console import Advance, Terminal
from pneumo.display.format import decimal
from pneumo.errors import InputError, listed
from pneumo.evaluation.metric_names import METRICS
from pneumo.inference.evaluation_count import record_test_evaluation
from pneumo.inference.model import load_model
from pneumo.runs import config, identity, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import PLACES, Images
from pneumo.runs.restore import experiment_of, restore
from pneumo.runs.resume import config_hash
from pneumo.runs.run import run
from pneumo.sweep import labels
from pneumo.sweep.folders import folder_of
from pneumo.sweep.settings import objective_name
from pneumo.sweep.storage import STUDY_ID, StudyStorage, open_study
from pneumo.sweep.summary import best_first

FIRST_SEED = 1000  # far from those of searching
# In the working directory, and by a name that no packaged choice has: Hydra would take that one first.
RECIPE = Path("recipes/experiment/confirmed/best.yaml")
COMMAND = "python train.py --config-dir recipes experiment=confirmed/best"


@dataclass(frozen=True)
class Confirmed:
    """A configuration, the value it was chosen by, and what fresh seeds gave."""

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
        return float(self.trial.values[0]) - self.mean


class FreshSeed(RunCallback):
    """A run of the configuration of a trial with another seed."""

    def __init__(self, ledger: StudyStorage, name: str, parent: str, tags: Mapping[str, object]):
        super().__init__()
        self.terminal = Terminal(quiet=True)
        self.run_name, self.parent, self.tags = name, parent, tags
        self.started, self.study_id = "", ledger.study_id
        self._ledger = ledger

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """InputError: the data are not those of the study any more, told before anything is trained."""
        dataset = load_dataset(source, advance)
        self._ledger.refuse_other_data(Images.of(dataset), dataset.split.hash)
        return dataset

    def on_start(self, run_id: str, split_hash: str, history: object) -> None:
        self.started = run_id


def confirm(url: str, name: str, top: int, seeds: int) -> None:
    """Goes on where it was stopped. InputError: no such study, or nothing in it to confirm."""
    ledger = open_study(url, name, directions=None)
    study, terminal = ledger.study, Terminal()
    if study.user_attrs.get("design"):
        raise InputError(
            f"{name} is a design: it was not searched for a best; pneumo study {name} has its answers"
        )
    chosen = best_first(study, study.get_trials(deepcopy=False))[:top]
    if not chosen:
        raise InputError(f"{name} has no complete trial yet: there is nothing to confirm")
    tracking.connect()
    experiment = experiment_of(chosen[0].user_attrs["run_id"]).mlflow_experiment
    tracking.connect(experiment)
    if "confirm_run" not in study.user_attrs:
        tags = {"study": name, STUDY_ID: ledger.study_id, "state": "confirm"}
        study.set_user_attr("confirm_run", tracking.parent_run(experiment, f"{name}-confirm", tags))
    terminal.say("confirm", f"the best {len(chosen)} of {name}, {seeds} fresh seeds each")
    terminal.line()
    results = [again(ledger, trial, seeds, terminal) for trial in chosen]
    objective = study.user_attrs["objective"][0]
    terminal.line()
    terminal.table(*table(results, objective), "")
    best = max(results, key=lambda one: (one.mean, -one.trial.number))
    terminal.line()
    tested = test_once(study, best)
    say_test(study, tested, best, terminal)
    tracking.end_run(study.user_attrs["confirm_run"], "FINISHED")
    path = write_recipe(study, best, tested, objective)
    tracking.log_text(study.user_attrs["confirm_run"], path.read_text(), "best.yaml")
    terminal.say("written", f"{path}: {COMMAND}")


def again(ledger: StudyStorage, trial: FrozenTrial, seeds: int, terminal: Terminal) -> Confirmed:
    """What is taken over was begun by this study's confirm, and is of the same configuration and split."""
    study = ledger.study
    figure = objective_name(study.user_attrs["objective"][0])
    split_hash = query.find_run(trial.user_attrs["run_id"]).data.tags["split_hash"]
    values, runs = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        experiment = experiment_of(trial.user_attrs["run_id"], {"seed": seed, "fit.test": False})
        same = {
            "mlflow.parentRunId": study.user_attrs["confirm_run"],
            "config_hash": config_hash(experiment),
            "split_hash": split_hash,
        }
        tags = {"confirms": f"{study.study_name}-{trial.number}", "seed": seed}
        run_id = query.finished_run({**tags, **same})
        if run_id is None:
            run_id = carried_out(ledger, trial, experiment, tags)
        values.append(query.metrics_of(run_id)[figure])
        runs.append(run_id)
        terminal.line(f" #{trial.number:<3}  seed {seed}  {decimal(values[-1])}")
    return Confirmed(trial, values, runs)


def carried_out(
    ledger: StudyStorage, trial: FrozenTrial, experiment: Experiment, tags: Mapping[str, object]
) -> str:
    study, seed = ledger.study, experiment.seed
    name = f"{study.study_name}-{trial.number}-seed-{seed}"
    of_study = {"study": study.study_name, STUDY_ID: ledger.study_id}
    callback = FreshSeed(ledger, name, study.user_attrs["confirm_run"], {**of_study, **tags})
    run(experiment, folder_of(study) / "confirm" / f"{trial.number}-{seed}", callback)
    return callback.started


def table(results: Sequence[Confirmed], objective: str) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            f"#{one.trial.number}",
            labels.parameters(one.trial.params),
            decimal(one.trial.values[0]),
            f"{decimal(one.mean)} ± {decimal(one.spread)}",
            f"{decimal(min(one.values))} - {decimal(max(one.values))}",
            f"{one.optimism:+.3f}".replace("0.", ".", 1),
        ]
        for one in results
    ]
    return ["", "parameters", f"{objective}, chosen by", "fresh seeds, mean ± sd", "range", "optimism"], rows


def test_once(study: optuna.Study, best: Confirmed) -> dict[str, Any]:
    """The test split's figures, from the study where it has been looked at before, through a run of its
    own."""
    kept: dict[str, Any] | None = study.user_attrs.get("tested")
    if kept is not None and is_own(study, kept["run_id"]):
        return kept
    run_id = best.runs[int(np.argmax(best.values))]
    scored = restore(run_id).judged(test=True)["test"]
    record_test_evaluation([load_model(run_id)], [len(scored.predictions.labels)])
    tracking.log_run(run_id, scored.named("test"))
    kept = {
        "trial": best.trial.number,
        "run_id": run_id,
        "when": date.today().isoformat(),
        "images": len(scored.predictions.labels),
        "patients": len(np.unique(scored.patients)),
        "figures": {name: scored.metrics[name] for name in scored.intervals},
        "intervals": {name: list(ends) for name, ends in scored.intervals.items()},
    }
    study.set_user_attr("tested", kept)
    return kept


def is_own(study: optuna.Study, run_id: str) -> bool:
    """Whether it is a run that this study's confirm began; one of an older study of the same name could be
    taken for it before studies had ids."""
    with suppress(InputError):
        tags = query.find_run(run_id).data.tags
        return bool(tags.get("mlflow.parentRunId") == study.user_attrs["confirm_run"])
    return False


def say_test(study: optuna.Study, tested: dict[str, Any], best: Confirmed, terminal: Terminal) -> None:
    if tested["trial"] != best.trial.number:
        terminal.warn(
            f"The test split was looked at on {tested['when']}, for #{tested['trial']}; not again for "
            f"#{best.trial.number}: it would choose on it."
        )
    rows = [
        [
            METRICS[name].in_terminal,
            decimal(tested["figures"][name]),
            " - ".join(map(decimal, ends)),
        ]
        for name, ends in tested["intervals"].items()
    ]
    of = f"{tested['images']:,} images of {tested['patients']:,} patients"
    title = f"test, {of}, #{tested['trial']}, looked at once"
    terminal.table(["", "", "95% interval (patients resampled)"], rows, title)
    terminal.line()


def write_recipe(study: optuna.Study, best: Confirmed, tested: dict[str, Any], objective: str) -> Path:
    """Into the working directory, once it is known to compose to what was confirmed.
    InputError: it does not."""
    experiment = experiment_of(best.trial.user_attrs["run_id"])
    path = Path.cwd() / RECIPE
    text = config.recipe_of(experiment, evidence(study, best, tested, objective))
    if differing := lost(experiment, config.of_recipe(text, experiment.choices)):
        raise InputError(
            listed(f"{path} is not written: it would compose to another experiment than the best:", differing)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)
    return path


def lost(wanted: Experiment, found: Experiment) -> list[str]:
    """What of an experiment another one does not have, but for its seed, by the names of what differs."""
    known = {**config.defaults(wanted), **wanted.parameters, "seed": found.seed}
    places = [
        f"{name}: confirmed {known.get(name)}, composed {found.parameters.get(name)}"
        for name in (*PLACES, "tta")
        if known.get(name) != found.parameters.get(name)
    ]
    then = {name: known[name] for name in found.parameters.keys() | wanted.parameters.keys() if name in known}
    return [*identity.differing(then, found.parameters), *places]


def evidence(study: optuna.Study, best: Confirmed, tested: dict[str, Any], objective: str) -> list[str]:
    """The lines at the top of a recipe: what it is, and what that rests on."""
    tags = query.find_run(best.trial.user_attrs["run_id"]).data.tags
    low, high = tested["intervals"]["auroc"]
    lines = [
        COMMAND,
        f"{date.today().isoformat()}: the best of the study {study.study_name} (id "
        f"{study.user_attrs[STUDY_ID]}), trial {best.trial.number}.",
        f"It was chosen by {objective} {decimal(best.trial.values[0])}; {len(best.values)} fresh seeds gave "
        f"{decimal(best.mean)} (sd {decimal(best.spread)}): {', '.join(map(decimal, best.values))}.",
        f"Configuration {tags.get('config_hash')}, data {tags.get('data_identity')}, "
        f"split {tags.get('split_hash')}.",
    ]
    if tested["trial"] == best.trial.number:
        lines.append(
            f"Test AUROC {decimal(tested['figures']['auroc'])} ({decimal(low)} - {decimal(high)}), "
            f"{tested['images']:,} images of {tested['patients']:,} patients, run {tested['run_id']}."
        )
    return lines
