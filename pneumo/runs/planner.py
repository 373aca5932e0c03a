"""Settings that follow from the data: `experiment=auto`. docs/plan.md has the evidence for each rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from omegaconf import DictConfig, OmegaConf

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.display.console import Terminal
from pneumo.runs import config
from pneumo.runs.experiment import Experiment, Parameter

PLAN = "plan"  # the top-level key that asks for a plan
SIDES_PX = (96, 128, 192)  # of the images; larger ones take too long on a CPU
SMALLEST_LESION_PX = 20  # pixels that nine of ten lesions should cover at least
LEAST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 2000, 12, 72
POSITIVE_SHARE = 0.8
MASKS_READ = 500  # lesions whose areas are measured


@dataclass(frozen=True)
class Fingerprint:
    """What the rules depend on: all of the training split alone, apart from the batch."""

    n_images: int
    prevalence: float
    small_lesion: float | None  # share of the image; nine of ten lesions are larger; None: no masks
    effective_batch: int

    @classmethod
    def of(cls, dataset: Dataset, experiment: Experiment) -> "Fingerprint":
        """The fingerprint of a data set, and of the batch of an experiment."""
        train, store = dataset.split.train, dataset.store
        lesions = store.mask_of[train]
        read = store.lesions[lesions[lesions >= 0][:MASKS_READ]]
        small = float(np.quantile(read.mean(axis=(1, 2)) / 255, 0.1)) if len(read) else None
        prevalence = float(dataset.labels[train].mean())
        return cls(len(train), prevalence, small, experiment.fit.effective_batch)


@dataclass(frozen=True)
class Decision:
    """A setting by its dotted name, its value, and the reason in words."""

    setting: str
    value: Parameter
    reason: str


def decisions(data: Fingerprint) -> Iterator[Decision]:
    """The decision of each rule that applies to these data."""
    if data.small_lesion is not None:
        covered = {side: data.small_lesion * side**2 for side in SIDES_PX}
        side = next((side for side in SIDES_PX if covered[side] >= SMALLEST_LESION_PX), SIDES_PX[-1])
        yield Decision(
            "data.image_side_px",
            side,
            f"nine of ten lesions then cover {covered[side]:.0f} pixels or more "
            f"({data.small_lesion:.2%} of the image)",
        )
    steps = -(-data.n_images // data.effective_batch)
    epochs = min(max(-(-LEAST_STEPS // steps), FEWEST_EPOCHS), MOST_EPOCHS)
    yield Decision(
        "fit.epochs",
        epochs,
        f"{data.n_images:,} training images are {steps} optimizer steps an epoch, {epochs * steps:,} in all",
    )
    if data.prevalence < POSITIVE_SHARE:
        yield Decision(
            "fit.positive_share",
            POSITIVE_SHARE,
            f"{data.prevalence:.0%} of the training images are positive; the first epochs see more of them",
        )
    yield Decision("tta", "hflip", "the mean over an image and its mirror image is more certain")


def planned(composed: DictConfig, overrides: Sequence[str], terminal: Terminal) -> Experiment:
    """The experiment of a configuration that Hydra composed with these overrides. Where it asks for a plan,
    the decisions that no override has taken replace its settings, and are printed with their reasons; the
    plan as a choice of `experiment=` is in `Experiment.plan`. InputError: as `config.load`, and the data are
    not valid."""
    experiment = config.load(composed)
    if not composed.get(PLAN) or experiment.fit.few_images is not None:
        return experiment
    with terminal.progress("data") as advance:
        dataset = load_dataset(experiment.data, advance)
    given = {config.override_key(override) for override in overrides}
    made = [one for one in decisions(Fingerprint.of(dataset, experiment)) if one.setting not in given]
    lines = [f"{decision.setting}={decision.value}: {decision.reason}" for decision in made]
    for number, line in enumerate(lines):
        terminal.say("" if number else PLAN, line)
    recipe = OmegaConf.create({"defaults": ["auto"], PLAN: False})
    for decision in made:
        OmegaConf.update(composed, decision.setting, decision.value)
        OmegaConf.update(recipe, decision.setting, decision.value)
    header = "".join(f"# {line}\n" for line in ("@package _global_", *lines))
    return replace(config.load(composed), plan=header + OmegaConf.to_yaml(recipe))
