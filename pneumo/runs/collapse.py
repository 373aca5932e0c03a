"""Whether a finished run has collapsed: it gives nearly all images one answer, having had time to learn."""

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from pneumo.display.format import counted, decimal, probability, with_interval
from pneumo.evaluation.metrics import calibrated_share_called, calls_one_class
from pneumo.runs.diagnosis import Positives
from pneumo.runs.results import SplitResult
from pneumo.training.plateau import FEWEST_STEPS
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

FEWEST_EPOCHS = 3
FEWEST_IMAGES = 10  # of each class in the split that is evaluated
COLLAPSED, TOO_SHORT, TOO_FEW = "true", "too short to judge", "too few images to judge"  # of the tag
CHANCE = "not better than chance"
CAUTIONS = {  # where a run with this tag is used
    COLLAPSED: "It collapsed in training: at P = .5 it gives nearly all images one answer.",
    TOO_SHORT: "Its training was too short to judge whether it learns.",
    TOO_FEW: "It had too few images to judge whether it learns.",
    CHANCE: "It is not shown to rank better than chance: the interval of its AUROC reaches .5.",
}
RANKS_BY_CHANCE = 0.6  # an interval of the AUROC that begins below this
BY_CHANCE = 0.01  # probability from which as few calls may be chance


@dataclass(frozen=True)
class Collapse:
    """A result in which nearly all images are called one class at P = .5. `too_short` and `too_few` tell why
    it cannot be known whether a longer training, or one on more images, would show the same."""

    result: SplitResult
    split: str
    too_short: str
    too_few: tuple[str, ...]

    @property
    def is_certain(self) -> bool:
        """Whether the training was long enough, and the images were many enough, to know it."""
        return not (self.too_short or self.too_few)

    @property
    def tag(self) -> str:
        """The value of the tag `collapsed`."""
        if self.is_certain:
            return COLLAPSED
        return TOO_SHORT if self.too_short else TOO_FEW

    def message(self, reason: str) -> str:
        """What is printed; `reason` is the likely one."""
        result, split = self.result, self.split
        n, positive = len(result.predictions.labels), int((result.predictions.scores >= 0.5).sum())
        called, count = ("negative", n - positive) if positive < n / 2 else ("positive", positive)
        fact = f"{count:,} of {n:,} {split} images are called {called} at P = .5"
        if not self.is_certain:
            doubt = ", ".join(filter(None, (self.too_short, *self.too_few)))
            remedies = ["more fit.epochs"] * bool(self.too_short) + ["more images"] * bool(self.too_few)
            return (
                f"{self.tag.upper()}: {fact}.{self._table()} From {doubt} it cannot be told "
                f"whether it learns; try {' or '.join(remedies)}."
            )
        return f"COLLAPSED: {fact}. {self._ranking()}{self._table()}\nLikely: {reason}"

    def _ranking(self) -> str:
        found = with_interval(self.result.metrics["auroc"], self.result.intervals["auroc"])
        low = self.result.intervals["auroc"][0]
        if np.isnan(low):
            return f"AUROC {found}."
        if low < RANKS_BY_CHANCE:
            return f"AUROC {found}: it has not learned to rank them."
        return f"AUROC {found}: its ranking is better than its predictions."

    def _table(self) -> str:
        """How the table of metrics, which has another threshold, fits to this."""
        scores, threshold = self.result.predictions.scores, self.result.threshold
        if (scores >= threshold).sum() == (scores >= 0.5).sum():
            return ""
        recall = decimal(self.result.metrics["recall"], 2)
        return f" The recall of {recall} above is at a threshold of {probability(threshold, 2)}."


def ranks_by_chance(result: SplitResult) -> bool:
    """Whether the interval of the AUROC is known and reaches .5, so that the ranking may be chance."""
    return bool(result.intervals["auroc"][0] <= 0.5)


def chance_message(result: SplitResult, split: str) -> str:
    found = with_interval(result.metrics["auroc"], result.intervals["auroc"])
    return f"NOT SHOWN TO LEARN: the {split} AUROC, {found}, is not shown to be above .5, which is chance."


def calls_as_calibrated(result: SplitResult) -> bool:
    """Whether the ranking is good, and the class that is called less often than it is true is called at least
    half as often as by a calibrated model, or as often as that one would by chance; its AUROC is the lower
    end of the interval. With 5% positives and an AUROC of .8 it calls .3% of the images positive, with 22%
    and .7 it calls 3.5%."""
    auroc = result.intervals["auroc"][0]
    if not auroc >= RANKS_BY_CHANCE:
        return False
    true, called = result.predictions.labels == 1, result.predictions.scores >= 0.5
    if called.mean() > true.mean():
        true, called = ~true, ~called
    share, n = calibrated_share_called(auroc, float(true.mean())), len(called)
    return bool(called.sum() >= share * n / 2 or bdtr(called.sum(), n, share) >= BY_CHANCE)


def find_collapse(
    result: SplitResult, split: str, positives: Positives, trainer: Trainer, train_state: TrainState
) -> Collapse | None:
    """The collapse of a run that ended with this result, if there is one; `positives` of the training."""
    labels = result.predictions.labels
    if not calls_one_class(labels, result.predictions.scores) or calls_as_calibrated(result):
        return None
    epochs, steps = len(train_state.history), trainer.steps_per_epoch()
    too_short = epochs < FEWEST_EPOCHS or epochs * steps < FEWEST_STEPS
    few = [f"{positives} to learn from"] if positives.are_few else []
    for name, label in (("positive", 1), ("negative", 0)):
        if (count := int(np.sum(labels == label))) < FEWEST_IMAGES:
            few.append(counted(count, f"{name} {split} image"))
    return Collapse(
        result,
        split,
        f"{counted(epochs, 'epoch')} of {counted(steps, 'optimizer step')}" if too_short else "",
        tuple(few),
    )
