"""What a frozen backbone makes of every image, computed once and kept beside the store: an epoch is then
one small layer's."""

# N images, K augmented views of each, F features

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from pneumo.components.augment import Augment
from pneumo.components.models import Classifier
from pneumo.data.batches import Batch, Batches, in_batches
from pneumo.errors import InputError
from pneumo.runs import identity
from pneumo.training import predict
from pneumo.training.predict import Predictions, View, Viewer, views_of
from pneumo.training.trainer import Fit


class FeatureBatches(Batches):
    """Serves (B, 1, 1 + K, F): each image as evaluation sees it, then its augmented views."""

    def __init__(self, images: Batches, features: Tensor):
        self.store, self.device, self._labels = images.store, images.device, images._labels
        self._features = features.to(self.device)

    def _images(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        for part in parts:
            yield self._features[torch.from_numpy(part).to(self.device)]


@dataclass(frozen=True, kw_only=True)
class FeatureFit(Fit):
    """A Fit whose images have passed the backbone already."""

    images: Fit
    view_labels: Tensor  # (N, 1 + K): as relabelling left them, NaN for none

    @property
    def viewer(self) -> Viewer:
        return Viewer(first_view, predict.identity, self.machine.precision, torch.contiguous_format)

    def predict(self, model: torch.nn.Module, rows: np.ndarray, views: list[View]) -> Predictions:
        if views != views_of("none"):
            return self.images.predict(model, rows, views)
        return super().predict(model, rows, views)

    def inputs(self, batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of K views a random one each time."""
        n_views = batch.images.shape[2] - 1
        chosen = 1 + (draws[:, 0] * n_views).long() if n_views else torch.zeros(len(draws), dtype=torch.long)
        every = torch.arange(len(chosen), device=self.machine.device)
        labels = self.view_labels[torch.from_numpy(batch.rows), chosen.cpu()].to(self.machine.device)
        decided = ~labels.isnan()
        chosen = chosen.to(self.machine.device)
        return batch.images[every, 0, chosen][decided], labels[decided], decided


def first_view(features: Tensor) -> Tensor:
    return features[:, 0, 0]


def remembering(fit: Fit, model: Classifier, frozen: bool, advance: Callable[[int, int], None]) -> Fit:
    """The same fit on features, where `fit.cache_features` says so: a number of augmented views, or auto:
    where the backbone is frozen and images are not augmented. InputError: the backbone is not frozen."""
    asked = fit.settings.cache_features
    if isinstance(asked, int) and not frozen:
        raise InputError(f"fit.cache_features={asked} needs model.freeze=backbone, and no mask head")
    if asked is None or not frozen or (asked == "auto" and not is_plain(fit.augment)):
        return fit
    n_views = asked if isinstance(asked, int) else 0
    place = fit.batches.store.folder / f"features-{key_of(fit, model, n_views)[:16]}.npz"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            write(place, *computed(fit, model, n_views, advance))
    kept = np.load(place)
    shared = {one.name: getattr(fit, one.name) for one in fields(Fit)}
    batches = FeatureBatches(fit.batches, torch.from_numpy(kept["features"]))
    labels = torch.from_numpy(kept["labels"])
    return FeatureFit(**shared | {"batches": batches}, images=fit, view_labels=labels)


def is_plain(augment: Augment) -> bool:
    """Whether training sees what evaluation sees."""
    return augment == Augment(
        erase_side=augment.erase_side,
        relabel_lost_below=augment.relabel_lost_below,
        relabel_kept_from=augment.relabel_kept_from,
    )


def key_of(fit: Fit, model: Classifier, n_views: int) -> str:
    """Of all that the features and their labels depend on, as 64 hex digits."""
    return identity.digest(
        fit.batches.store.key,
        fit.batches.labels(np.arange(len(fit.image_ids))),
        fit.batches.store.has_mask,
        repr((fit.augment, fit.normalise, fit.machine.dtype, fit.machine.device.type, n_views)),
        fit.seed if n_views else None,
        model.backbone.state_dict(),
    )


@torch.inference_mode()
def computed(
    fit: Fit, model: Classifier, n_views: int, advance: Callable[[int, int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 1 + K, F) and labels (N, 1 + K), float32."""
    model.eval()
    n = len(fit.image_ids)
    draws = [
        fit.augment.draw(n, torch.Generator().manual_seed(1_000_003 * fit.seed + view))
        for view in range(n_views)
    ]
    features: list[Tensor] = []
    labels: list[Tensor] = []
    for rows in in_batches(np.arange(n), 2 * fit.settings.batch_size):
        (batch,) = fit.batches.each([rows])
        seen, said = [fit.augment.evaluation(batch.images)], [batch.labels]
        for drawn in draws:
            view, view_labels = fit.view(batch, drawn[rows].to(fit.machine.device))
            seen.append(view)
            said.append(view_labels)
        with fit.machine.precision():
            passed = [
                model.backbone(fit.normalise(view).contiguous(memory_format=fit.memory_format))
                for view in seen
            ]
        features.append(torch.stack([one.float().cpu() for one in passed], dim=1))
        labels.append(torch.stack([one.cpu() for one in said], dim=1))
        advance(int(rows[-1]) + 1, n)
    return torch.cat(features).numpy(), torch.cat(labels).numpy()


def write(place: Path, features: np.ndarray, labels: np.ndarray) -> None:
    """Whole, or not at all."""
    beside = place.with_suffix(".partial")
    try:
        with beside.open("wb") as file:
            np.savez(file, features=features, labels=labels)
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)
