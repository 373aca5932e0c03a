"""A finished run looked at again: its configuration, its best model, its pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pneumo.data.dataset import Material, limited, prepared
from pneumo.display.console import Terminal
from pneumo.runs import checkpoint, config, plots, query, tracking
from pneumo.runs.diagnosis import Scored
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import Images
from pneumo.runs.resume import from_file
from pneumo.runs.run import assembled, begun, built_model, judged
from pneumo.training.device import Machine
from pneumo.training.state import Training
from pneumo.training.trainer import Fit


@dataclass(frozen=True)
class Revisited:
    """The best model of a run, ready to be judged."""

    run_id: str
    experiment: Experiment
    material: Material
    fit: Fit
    training: Training

    def judged(self, test: bool) -> dict[str, Scored]:
        """On validation and, where `test`, on the test split at the threshold that validation chose."""
        asked = replace(self.experiment, fit=replace(self.experiment.fit, test=test))
        return judged(asked, self.fit, self.training.model, self.material, Terminal(quiet=True))

    def illustrate(self) -> None:
        """Its pictures, into the run."""
        scored = self.judged(test=False)
        for path, figure in plots.of_run(self.fit, self.training, self.material, scored):
            tracking.keep_figure(self.run_id, figure, path)


def experiment_of(run_id: str, changes: Mapping[str, Any] | None = None) -> Experiment:
    """As the run was configured, but for `changes` by their dotted names.
    InputError: no such run, or its files are gone."""
    tags = query.find_run(run_id).data.tags
    choices = {group: tags[group] for group in config.GROUPS if group in tags}
    return config.again(query.text_of(run_id, "config.yaml"), choices, {"resume": None, **(changes or {})})


def revisit(run_id: str) -> Revisited:
    """InputError: no such run, its files are gone, or its images have changed."""
    experiment = experiment_of(run_id)
    state = from_file(experiment, query.checkpoint_file(run_id, checkpoint.LAST))
    machine = Machine.chosen(experiment.fit.device, experiment.fit.precision)
    material = limited(prepared(experiment.data, lambda done, total: None), experiment.fit.few_images)
    state.refuse_other_images(Images.of(material), material.split.hash)
    fit = assembled(experiment, material, machine)
    training = begun(experiment, built_model(experiment, machine), fit)
    training.load_state_dict(state.state)
    best = checkpoint.read(query.checkpoint_file(run_id, checkpoint.BEST))
    training.model.load_state_dict(best["model"])
    return Revisited(run_id, experiment, material, fit, training)
