"""Settings that follow from the data: `experiment=auto`. docs/plan.md has the evidence for each rule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from omegaconf import DictConfig, OmegaConf

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.display.console import Terminal
from pneumo.runs import config
from pneumo.runs.experiment import Experiment, Parameter
from pneumo.runs.overrides import override_key, written
from pneumo.training.device import Accelerator
from pneumo.training.distributed import process_count

PLAN = "plan"  # the top-level key that asks for a plan
AUTO = "experiment=auto"
SIDES_PX = (96, 128, 192)  # of the images; larger ones take too long on a CPU
SMALLEST_LESION_PX = 20  # pixels that nine of ten lesions should cover at least
LEAST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 2000, 12, 72
POSITIVE_SHARE = 0.8
MASKS_READ = 500  # lesions whose areas are measured
FEW_IMAGES = 600  # below which the training images are distorted, as with augment=safe
DISTORTED: dict[str, Parameter] = {
    "augment.rotation_degrees": 10,
    "augment.shift": 0.05,
    "augment.scale": 0.1,
    "augment.brightness": 0.2,
    "augment.contrast": 0.2,
    "augment.gamma": 0.2,
}
PLANNED = ("data.image_side_px", "fit.epochs", *DISTORTED, "fit.positive_share", "tta")  # all that is decided


@dataclass(frozen=True)
class Fingerprint:
    """What the rules depend on: the training split, the batch and the device."""

    n_images: int
    prevalence: float
    small_lesion: float | None  # share of the image; nine of ten lesions are larger; None: no masks
    effective_batch: int
    on_cpu: bool
    largest_px: int | None = None  # the longest side of the files; None: not from files, or not known

    @classmethod
    def of(cls, dataset: Dataset, experiment: Experiment) -> "Fingerprint":
        """The fingerprint of an experiment and its data set."""
        train, store = dataset.split.train, dataset.store
        lesions = store.mask_of[train]
        read = store.lesions[lesions[lesions >= 0][:MASKS_READ]]
        small = float(np.quantile(read.mean(axis=(1, 2)) / 255, 0.1)) if len(read) else None
        prevalence = float(dataset.labels[train].mean())
        device = Accelerator.chosen(experiment.fit.device, experiment.fit.precision).device
        batch = experiment.fit.effective_batch * process_count()
        return cls(len(train), prevalence, small, batch, device.type == "cpu", store.largest_px)


@dataclass(frozen=True)
class Decision:
    """Values of settings by their dotted names, and the reason in words."""

    settings: Mapping[str, Parameter]
    reason: str

    def without(self, given: set[str]) -> "Decision":
        """The decision on the settings that are not given, by their name or by a choice of augmentation."""
        taken = {name for name in self.settings if name in given or name.split(".")[0] in given - {"data"}}
        return replace(self, settings={k: v for k, v in self.settings.items() if k not in taken})

    def __str__(self) -> str:
        settings = " ".join(f"{name}={written(value)}" for name, value in self.settings.items())
        return f"{settings}: {self.reason}"


def decisions(data: Fingerprint) -> Iterator[Decision]:
    """The decision of each rule that applies to these data."""
    if data.small_lesion is not None and data.on_cpu:
        sides = [min(side, data.largest_px or side) for side in SIDES_PX]  # no file is enlarged
        covered = {side: data.small_lesion * side**2 for side in sides}
        side = next((side for side in sides if covered[side] >= SMALLEST_LESION_PX), sides[-1])
        most = ", and no file is larger" if side == data.largest_px else ""
        yield Decision(
            {"data.image_side_px": side},
            f"nine of ten lesions then cover {covered[side]:.0f} pixels or more "
            f"({data.small_lesion:.2%} of the image){most}",
        )
    steps = -(-data.n_images // data.effective_batch)
    epochs = min(max(-(-LEAST_STEPS // steps), FEWEST_EPOCHS), MOST_EPOCHS)
    yield Decision(
        {"fit.epochs": epochs},
        f"{data.n_images:,} training images are {steps} optimizer steps an epoch, {epochs * steps:,} in all",
    )
    if data.n_images < FEW_IMAGES:
        yield Decision(DISTORTED, "so few images would be learned by heart as they are")
    share = f"{100 * data.prevalence:.3g}% of the training images are positive"
    if data.prevalence < POSITIVE_SHARE:
        yield Decision({"fit.positive_share": POSITIVE_SHARE}, f"{share}; the first epochs see more of them")
    else:
        yield Decision({"fit.positive_share": None}, f"{share}; the first epochs need no more of them")
    yield Decision({"tta": "hflip"}, "the mean over an image and its mirror image is more certain")


def given_settings(composed: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> set[str]:
    """The names of settings and groups that the overrides give, or files: those that are not as in
    `experiment=auto` alone with the same choice of data. `choices`, by group, are those of `composed`."""
    data = [f"data={choices['data']}"] if "data" in choices else []
    bare = config.compose_train([*data, AUTO, *config.search_path_overrides()], with_hydra=True)
    names = {name for name in PLANNED if value_in(composed, name) != value_in(bare, name)}
    usual = bare.hydra.runtime.choices["augment"]
    group = {"augment"} if choices.get("augment", usual) != usual else set()
    return {override_key(override) for override in overrides} | names | group


def value_in(composed: DictConfig, name: str) -> object:
    """The value of a setting, None where it has none."""
    return OmegaConf.select(composed, name, throw_on_missing=False)


def open_decisions(data: Fingerprint, given: set[str]) -> list[Decision]:
    """The decisions on settings that are not given."""
    left = [decision.without(given) for decision in decisions(data)]
    return [decision for decision in left if decision.settings]


def planned(composed: DictConfig, overrides: Sequence[str], terminal: Terminal) -> Experiment:
    """The experiment of a configuration that Hydra composed with these overrides. Where it asks for a plan,
    the decisions on settings that are not given replace these, and are printed with their reasons; the
    plan as a choice of `experiment=` is in `Experiment.plan`. InputError: as `config.load`, and the data are
    not valid."""
    experiment = config.load(composed)
    if not composed.get(PLAN) or experiment.fit.few_images is not None:
        return experiment
    with terminal.progress("data") as advance:
        dataset = load_dataset(experiment.data, advance)
    choices = config.chosen_by_group(overrides)
    given = given_settings(composed, choices, overrides)
    made = open_decisions(Fingerprint.of(dataset, experiment), given)
    for number, decision in enumerate(made):
        terminal.say("" if number else PLAN, str(decision))
    recipe = OmegaConf.create({"defaults": [choices.get("experiment") or "auto"], PLAN: False})
    for name, value in [setting for decision in made for setting in decision.settings.items()]:
        OmegaConf.update(composed, name, value)
        OmegaConf.update(recipe, name, value)
    header = "".join(f"# {line}\n" for line in ("@package _global_", *made))
    return replace(config.load(composed), plan=header + OmegaConf.to_yaml(recipe))
