"""The best model of a run, loaded with all it needs to predict on images of any origin."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pneumo.components.losses import Bce, CrossEntropy, Loss, WeightedBce
from pneumo.components.models import Classifier
from pneumo.data.batches import Batches
from pneumo.data.normalise import Normalise
from pneumo.errors import InputError
from pneumo.evaluation.calibration import platt_scaling
from pneumo.evaluation.metrics import log_odds
from pneumo.inference.decision import MARGIN, Decision
from pneumo.runs import checkpoint, collapse, query
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import DatasetIdentity, SeenImages
from pneumo.runs.named_run import named_run
from pneumo.runs.restore import experiment_of
from pneumo.training.device import Accelerator, available_devices
from pneumo.training.predict import EvalTransform, TtaTransform, mean_logits, predict, scores_of


@dataclass(frozen=True)
class LoadedModel:
    run_id: str
    experiment: Experiment
    model: Classifier  # in evaluation mode, on the run's device or, where that is not here, the machine's
    loss: Loss  # fitted: it turns logits into P(pneumothorax)
    normalise: Normalise
    threshold: float  # of P, chosen on its validation split with its own tta
    accelerator: Accelerator
    images: (
        DatasetIdentity | None
    )  # of its data, when it was trained; None of runs before checkpoints knew them
    seen: SeenImages | None  # all images that its weights have been trained on
    split_hash: str  # of its split, which tells that of such runs
    cautions: tuple[str, ...]  # sentences to show wherever it is used: that it leaks, that it collapsed

    @property
    def side_px(self) -> int:
        """Of the square images that it takes."""
        return self.experiment.data.image_side_px

    @property
    def eval_transform(self) -> EvalTransform:
        layout = torch.channels_last if self.experiment.fit.channels_last else torch.contiguous_format
        return EvalTransform(
            self.experiment.augment.evaluation, self.normalise, self.accelerator.precision, layout
        )

    def scores_of_rows(
        self, batches: Batches, rows: np.ndarray, transforms: list[TtaTransform]
    ) -> np.ndarray:
        """(N,) P(pneumothorax) of these rows as training computes it: from means over the transforms."""

        def logits(size: int) -> Tensor:
            return predict(self.model, batches, rows, self.eval_transform, size, transforms)

        fitting = self.accelerator.with_size_that_fits(logits, 2 * self.experiment.fit.batch_size)
        return scores_of(self.loss, fitting)

    def scores(self, images: Tensor, transforms: list[TtaTransform]) -> np.ndarray:
        """(B, 1, S, S) uint8 -> (B,), as `scores_of_rows`."""
        device = self.accelerator.device

        def logits(size: int) -> Tensor:
            parts = [
                mean_logits(self.model, part.to(device), self.eval_transform, transforms).cpu()
                for part in torch.split(images, size)
            ]
            return torch.cat(parts)

        return scores_of(self.loss, self.accelerator.with_size_that_fits(logits, len(images)))


def load_model(name: str) -> LoadedModel:
    """The model of a run, by any of the names that `named_run` knows. InputError: there is no such run, it
    never finished an epoch, or its checkpoint is gone, broken or of another model."""
    run = named_run(name)
    run_id, metrics = run.run_id, run.metrics
    path = query.checkpoint_file(run_id, checkpoint.BEST)
    state = checkpoint.read(path)
    experiment = experiment_of(run_id)
    if missing := sorted({"threshold", "normalise_mean", "split/train_prevalence"} - metrics.keys()):
        raise InputError(f"Run {run_id} has no {missing[0]}: it did not finish; resume={run_id} continues it")
    device = experiment.fit.device if experiment.fit.device in available_devices() else "auto"
    accelerator = Accelerator.chosen(device, experiment.fit.precision)
    config = replace(experiment.model, pretrained=None, mask_head="evidence.weight" in state["model"])
    model = config(experiment.loss.n_outputs)
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path} is of another model than run {run_id} was configured with: {reason}"
        ) from None
    return LoadedModel(
        run_id,
        experiment,
        model.to(accelerator.device).eval(),
        loss_of(experiment, metrics, run.tags),
        Normalise(metrics["normalise_mean"], metrics["normalise_std"]),
        metrics["threshold"],
        accelerator,
        checkpoint.images_of(state),
        checkpoint.seen_of(state),
        state["split_hash"],
        tuple(cautions(run.tags)),
    )


def decision_of(model: LoadedModel) -> Decision:
    """The threshold of a run and the Platt scaling fitted on its own predictions of its validation split.
    InputError: its predictions are gone."""
    table = pd.read_csv(io.StringIO(query.read_text(model.run_id, "predictions.csv")))
    val = table[table["split"] == "val"]
    fitted = platt_scaling(log_odds(val["score"].to_numpy(), MARGIN), val["label"].to_numpy())
    return Decision(model.threshold, fitted)


def cautions(tags: Mapping[str, str]) -> Iterator[str]:
    if (risk := tags.get("leak_risk", "none")) != "none":
        yield f"Its validation and test images may not be new to it: {risk}."
    if caution := collapse.CAUTIONS.get(tags.get("collapsed", "")):
        yield caution


def loss_of(experiment: Experiment, values: Mapping[str, float], tags: Mapping[str, str]) -> Loss:
    """The fitted loss that a run's scores and threshold were made with."""
    loss, prevalence = experiment.loss, values["split/train_prevalence"]
    if "score_format" not in tags and isinstance(loss, Bce | WeightedBce | CrossEntropy):
        loss = replace(loss, label_smoothing=0.0)  # an older run: smoothing was left in P
    if (few := experiment.fit.few_images) is not None:  # an older run has the metrics of the whole split
        positives = min(few // 2, values["split/train_positives"])
        negatives = min(few - few // 2, values["split/train_images"] - values["split/train_positives"])
        prevalence = positives / (positives + negatives)
    return loss.fitted(prevalence)
