"""Why a run has not learned, as far as it can be checked."""

from dataclasses import dataclass, replace

from pneumo.data.dataset import Dataset
from pneumo.display.format import counted
from pneumo.runs.experiment import Experiment
from pneumo.runs.remedy import remedy
from pneumo.training.lesion_retention import NOTHING_LEFT, SAMPLED, share_of_lesions_lost
from pneumo.training.plateau import MARGIN, TOO_HIGH, TOO_LOW, History, Plateau, PlateauDetector
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

FEW_POSITIVES = 20  # patients or, where they are not known, images: too few to learn from


@dataclass(frozen=True)
class Reason:
    """Why a run has not learned. `rate`: TOO_HIGH or TOO_LOW, where it is the learning rate; `again`: whether
    a second attempt may learn; `mendable`: whether other settings may."""

    text: str
    rate: str | None = None
    again: bool = False
    mendable: bool = True


@dataclass(frozen=True)
class Positives:
    """How many positive patients are trained on or, where patients are not known, positive images."""

    count: int
    patients_known: bool

    @classmethod
    def of(cls, dataset: Dataset) -> "Positives":
        return cls(dataset.positive_patients(dataset.split.train), dataset.patients_known)

    def __str__(self) -> str:
        return counted(self.count, f"positive {'patient' if self.patients_known else 'image'}")

    @property
    def are_few(self) -> bool:
        """Whether they are too few to learn from."""
        return self.count < FEW_POSITIVES


def with_advice(reason: Reason, experiment: Experiment, dataset: Dataset) -> Reason:
    """A reason of `likely_reason` that also tells what to add to the run's command."""
    if not reason.mendable or experiment.fit.few_images is not None:
        return replace(reason, text=f"{reason.text}.")
    changes = remedy(experiment, dataset, reason.rate == TOO_HIGH)
    advice = f"try {changes}" if changes else "its settings are already those of experiment=auto"
    return replace(reason, text=f"{reason.text}; {advice}.")


def likely_reason(
    experiment: Experiment,
    trainer: Trainer,
    train_state: TrainState,
    dataset: Dataset,
    find_plateau: PlateauDetector,
    plateau: Plateau | None,
) -> Reason:
    """Why a run collapsed or is on a plateau, by what can be checked: a frozen random network, a crop that
    loses lesions, few positives in training, the learning rate, or nothing that generalises."""
    model, augment, augment_name = experiment.model, trainer.augment, experiment.choices["augment"]
    if model.freeze == "backbone" and model.pretrained is None:
        return Reason("all layers but the last are frozen at random values")
    store = trainer.batches.store
    lesions = store.mask_of[trainer.split.train]
    lesions = lesions[lesions >= 0][:SAMPLED]
    lost = share_of_lesions_lost(augment, store, lesions, NOTHING_LEFT) if len(lesions) else 0.0
    if lost > 0.1 and not augment.relabel:
        what = "crop" if augment.crop < 1 else "augmentation"
        text = f"its {what} loses the whole lesion in {lost:.0%} of positive draws (augment={augment_name})"
        return Reason(text, again=augment.crop == 1)  # without distortions, as in a second attempt
    positives = Positives.of(dataset)
    if positives.are_few:
        return Reason(f"it has only {positives} to learn from: too few", mendable=False)
    share = trainer.positive_share(len(train_state.history))
    constant, reached = max(share, 1 - share), train_state.history[-1]["train/accuracy"]
    if plateau is None and reached >= constant + (1 - constant) / 5:
        return Reason("it learned its training images but nothing that generalises")
    return rate_reason(find_plateau, train_state.history)


def rate_reason(find_plateau: PlateauDetector, history: History) -> Reason:
    """What the losses of a run that has not learned its training images tell about its learning rate."""
    loss, one_answer = history[-1]["train/loss"], find_plateau.constant_loss(len(history)).best
    losses = f"its training loss is {loss:.2f}, where one answer for all images gives {one_answer:.2f}"
    rate = find_plateau.learning_rate(history)
    if rate == TOO_HIGH:
        one_score = history[-1]["val/auroc"] == 0.5
        rose = f"its losses rose up to {highest_loss(history):.2f}"
        why = "all images get one score" if one_score else rose
        return Reason(f"its learning rate is too high: {why}", rate, again=True)
    if rate == TOO_LOW:
        return Reason(f"its learning rate is too low, or its epochs are too few: {losses}", rate)
    if loss < (1 - MARGIN) * one_answer:
        return Reason(f"it has learned too little: {losses}")
    return Reason(f"it gives all images one answer: {losses}", again=True)


def highest_loss(history: History) -> float:
    """The highest loss of an epoch, in training or validation."""
    return max(epoch[name] for epoch in history for name in ("train/loss", "val/loss"))
