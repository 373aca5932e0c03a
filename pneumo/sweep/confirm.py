"""`pneumo confirm NAME`: the best of a study again with fresh seeds, then the test split, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.trial import FrozenTrial

import pneumo
from pneumo import archive, tracking
from pneumo.config import GROUPS, key_of
from pneumo.console import Terminal
from pneumo.describe import ROWS, short
from pneumo.errors import InputError
from pneumo.revisit import experiment_of, revisit
from pneumo.run import run
from pneumo.sweep import words
from pneumo.sweep.ledger import opened
from pneumo.sweep.settings import objective_name
from pneumo.sweep.summary import best_first
from pneumo.watch import Watch

FIRST_SEED = 1000  # far from those of searching
NOT_OF_A_RECIPE = ("data", "seed", "tracking", "resume", "fit.test", "fit.pictures", "fit.device")
FOLDER = Path("outputs/studies")


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


class FreshSeed(Watch):
    def __init__(self, name: str, parent: str, tags: Mapping[str, object]):
        super().__init__()
        self.terminal = Terminal(quiet=True)
        self.run_name, self.parent, self.tags = name, parent, tags
        self.started = ""

    def begins(self, run_id: str, split_hash: str, history: object) -> None:
        self.started = run_id


def confirm(url: str, name: str, top: int, seeds: int) -> None:
    """Goes on where it was stopped. InputError: no such study, or nothing in it to confirm."""
    study = opened(url, name, directions=None).study
    terminal = Terminal()
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
        tags = {"study": name, "state": "confirm"}
        study.set_user_attr("confirm_run", tracking.parent_run(experiment, f"{name}-confirm", tags))
    terminal.say("confirm", f"the best {len(chosen)} of {name}, {seeds} fresh seeds each")
    terminal.line()
    results = [again(study, trial, seeds, terminal) for trial in chosen]
    objective = study.user_attrs["objective"][0]
    terminal.line()
    terminal.table(*table(results, objective), "")
    best = max(results, key=lambda one: (one.mean, -one.trial.number))
    terminal.line()
    tested = test_once(study, best)
    say_test(study, tested, best, terminal)
    path = write_recipe(study, best, tested, objective)
    tracking.keep_text(study.user_attrs["confirm_run"], path.read_text(), "best.yaml")
    tracking.end_run(study.user_attrs["confirm_run"], "FINISHED")
    terminal.say("written", f"{path}: python train.py experiment=best")


def again(study: optuna.Study, trial: FrozenTrial, seeds: int, terminal: Terminal) -> Confirmed:
    figure = objective_name(study.user_attrs["objective"][0])
    values, runs = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        tags = {"confirms": f"{study.study_name}-{trial.number}", "seed": seed}
        run_id = archive.finished_run(tags)
        if run_id is None:
            run_id = carried_out(study, trial, seed, tags)
        values.append(archive.figures_of(run_id)[figure])
        runs.append(run_id)
        terminal.line(f" #{trial.number:<3}  seed {seed}  {short(values[-1])}")
    return Confirmed(trial, values, runs)


def carried_out(study: optuna.Study, trial: FrozenTrial, seed: int, tags: Mapping[str, object]) -> str:
    experiment = experiment_of(trial.user_attrs["run_id"], {"seed": seed, "fit.test": False})
    name = f"{study.study_name}-{trial.number}-seed-{seed}"
    watch = FreshSeed(name, study.user_attrs["confirm_run"], {"study": study.study_name, **tags})
    run(experiment, FOLDER / study.study_name / "confirm" / f"{trial.number}-{seed}", watch)
    return watch.started


def table(results: Sequence[Confirmed], objective: str) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            f"#{one.trial.number}",
            words.parameters(one.trial.params),
            short(one.trial.values[0]),
            f"{short(one.mean)} ± {short(one.spread)}",
            f"{short(min(one.values))} - {short(max(one.values))}",
            f"{one.optimism:+.3f}".replace("0.", ".", 1),
        ]
        for one in results
    ]
    return ["", "parameters", f"{objective}, chosen by", "fresh seeds, mean ± sd", "range", "optimism"], rows


def test_once(study: optuna.Study, best: Confirmed) -> dict[str, Any]:
    """The test split's figures, from the study where it has been looked at before."""
    kept: dict[str, Any] | None = study.user_attrs.get("tested")
    if kept is not None:
        return kept
    run_id = best.runs[int(np.argmax(best.values))]
    scored = revisit(run_id).judged(test=True)["test"]
    tracking.log_run(run_id, scored.named("test"))
    kept = {
        "trial": best.trial.number,
        "run_id": run_id,
        "when": date.today().isoformat(),
        "images": len(scored.predictions.labels),
        "patients": len(np.unique(scored.patients)),
        "figures": {name: scored.figures[name] for name in ROWS},
        "intervals": {name: list(scored.intervals[name]) for name in ROWS},
    }
    study.set_user_attr("tested", kept)
    return kept


def say_test(study: optuna.Study, tested: dict[str, Any], best: Confirmed, terminal: Terminal) -> None:
    if tested["trial"] != best.trial.number:
        terminal.warn(
            f"The test split was looked at on {tested['when']}, for #{tested['trial']}; not again for "
            f"#{best.trial.number}: it would choose on it."
        )
    rows = [
        [label, short(tested["figures"][name]), " - ".join(short(end) for end in tested["intervals"][name])]
        for name, label in ROWS.items()
    ]
    of = f"{tested['images']:,} images of {tested['patients']:,} patients"
    title = f"test, {of}, #{tested['trial']}, looked at once"
    terminal.table(["", "", "95% interval (patients resampled)"], rows, title)
    terminal.line()


def write_recipe(study: optuna.Study, best: Confirmed, tested: dict[str, Any], objective: str) -> Path:
    """conf/experiment/best.yaml, its evidence in the header."""
    groups: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for line in best.trial.user_attrs["overrides"]:
        key, value = key_of(line), yaml.safe_load(line.split("=", 1)[1])
        if any(key == name or key.startswith(f"{name}.") for name in NOT_OF_A_RECIPE):
            continue
        if key in GROUPS:
            groups[key] = value
        else:
            nested = values
            *above, last = key.split(".")
            for part in above:
                nested = nested.setdefault(part, {})
            nested[last] = value
    low, high = tested["intervals"]["auroc"]
    lines = [
        "# @package _global_",
        "# python train.py experiment=best",
        f"# {date.today().isoformat()}: the best of the study {study.study_name}, trial {best.trial.number}. "
        f"It was chosen by {objective} {short(best.trial.values[0])};",
        f"# {len(best.values)} fresh seeds gave {short(best.mean)} (sd {short(best.spread)}): "
        f"{', '.join(short(value) for value in best.values)}.",
    ]
    if tested["trial"] == best.trial.number:
        lines.append(
            f"# Test AUROC {short(tested['figures']['auroc'])} ({short(low)} - {short(high)}), "
            f"{tested['images']:,} images of {tested['patients']:,} patients, run {tested['run_id']}."
        )
    if groups:
        lines += ["defaults:", *(f"  - override /{group}: {choice}" for group, choice in groups.items()), ""]
    text = "\n".join(lines) + "\n" + (yaml.safe_dump(values, sort_keys=False) if values else "")
    folder = Path(pneumo.__file__).parents[1] / "conf" / "experiment"
    path = (folder if folder.is_dir() else Path.cwd()) / "best.yaml"
    path.write_text(text)
    return path
