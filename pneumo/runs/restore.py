"""Rebuilds a finished run from MLflow: its experiment, or its best model with trainer and data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pneumo.data.dataset import Dataset
from pneumo.display.console import Terminal
from pneumo.runs import checkpoint, config, plots, query, tracking
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import DatasetIdentity
from pneumo.runs.recorder import Recorder
from pneumo.runs.rescue import second_attempt
from pneumo.runs.results import SplitResult
from pneumo.runs.resume import resume_point
from pneumo.runs.run import build_model, build_train_state, build_trainer, evaluate
from pneumo.runs.setting_names import GROUPS
from pneumo.training.device import Accelerator
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer


@dataclass(frozen=True)
class RestoredRun:
    """The best model of a run with its trainer and data."""

    run_id: str
    experiment: Experiment
    dataset: Dataset
    trainer: Trainer
    train_state: TrainState

    def evaluate(self, test: bool) -> dict[str, SplitResult]:
        """Results by split: val and, if `test`, test, both at the threshold that is best on val."""
        request = replace(self.experiment, fit=replace(self.experiment.fit, test=test))
        return evaluate(request, self.trainer, self.train_state.model, self.dataset, Terminal(quiet=True))

    def illustrate(self) -> None:
        """Adds the plots to the run in MLflow."""
        results = self.evaluate(test=False)
        for path, figure in plots.of_run(self.trainer, self.train_state, self.dataset, results):
            tracking.log_figure(self.run_id, figure, path)


def experiment_of(run_id: str, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a run, with `changes` by their dotted names.
    InputError: the run does not exist, or its files are gone."""
    tags = query.find_run(run_id).data.tags
    choices = {group: tags[group] for group in GROUPS if group in tags}
    return config.from_yaml(
        query.read_text(run_id, "config.yaml"), choices, {"resume": None, **(changes or {})}
    )


def restore(run_id: str) -> RestoredRun:
    """The run of this id. InputError: it does not exist, its files are gone, or its images have changed."""
    experiment = experiment_of(run_id)
    last = resume_point(experiment, run_id)
    accelerator = Accelerator.chosen(experiment.fit.device, experiment.fit.precision)
    dataset = Recorder(experiment).load_dataset()
    last.refuse_other_images(DatasetIdentity.of(dataset), dataset.split.hash)
    attempt = second_attempt(experiment) if last.state.get("abandoned") else experiment
    trainer = build_trainer(attempt, dataset, accelerator)
    train_state = build_train_state(attempt, build_model(attempt, accelerator), trainer)
    train_state.load_state_dict(last.state)
    best = checkpoint.read(query.checkpoint_file(run_id, checkpoint.BEST))
    train_state.model.load_state_dict(best["model"])
    return RestoredRun(run_id, experiment, dataset, trainer, train_state)
