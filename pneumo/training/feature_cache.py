"""What a frozen backbone makes of every image, computed once and kept beside the store: an epoch is then
one small layer's."""

# N images, K augmented views of each, F features

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from pneumo.components.augment import Augment
from pneumo.components.models import Classifier
from pneumo.data.atomic import atomic_path, remove_leftovers
from pneumo.data.batches import Batch, Batches, in_batches
from pneumo.errors import InputError
from pneumo.runs import identity
from pneumo.training import predict
from pneumo.training.predict import EvalTransform, Predictions, TtaTransform, tta_transforms
from pneumo.training.trainer import Trainer


class FeatureBatches(Batches):
    """Serves (B, 1, 1 + K, F): each image as evaluation sees it, then its augmented views."""

    def __init__(self, images: Batches, features: Tensor):
        self.store, self.device, self._labels = images.store, images.device, images._labels
        self._features = features.to(self.device)

    def _images(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        for part in parts:
            yield self._features[torch.from_numpy(part).to(self.device)]


@dataclass(frozen=True, kw_only=True)
class FeatureTrainer(Trainer):
    """A Trainer whose images have passed the backbone already."""

    images: Trainer
    transform_labels: Tensor  # (N, 1 + K): as relabelling left them, NaN for none

    @property
    def eval_transform(self) -> EvalTransform:
        return EvalTransform(
            first_transform, predict.identity, self.accelerator.precision, torch.contiguous_format
        )

    def predict(
        self, model: torch.nn.Module, rows: np.ndarray, transforms: list[TtaTransform]
    ) -> Predictions:
        if transforms != tta_transforms("none"):
            return self.images.predict(model, rows, transforms)
        return super().predict(model, rows, transforms)

    def inputs(self, batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of K views a random one each time."""
        n_transforms = batch.images.shape[2] - 1
        chosen = (
            1 + (draws[:, 0] * n_transforms).long()
            if n_transforms
            else torch.zeros(len(draws), dtype=torch.long)
        )
        every = torch.arange(len(chosen), device=self.accelerator.device)
        labels = self.transform_labels[torch.from_numpy(batch.rows), chosen.cpu()].to(self.accelerator.device)
        decided = ~labels.isnan()
        chosen = chosen.to(self.accelerator.device)
        return batch.images[every, 0, chosen][decided], labels[decided], decided


def first_transform(features: Tensor) -> Tensor:
    return features[:, 0, 0]


def with_cached_features(
    trainer: Trainer, model: Classifier, frozen: bool, advance: Callable[[int, int], None]
) -> Trainer:
    """The same fit on features, where `fit.cache_features` says so: a number of augmented views, or auto:
    where the backbone is frozen and images are not augmented. InputError: the backbone is not frozen."""
    asked = trainer.settings.cache_features
    if isinstance(asked, int) and not frozen:
        raise InputError(f"fit.cache_features={asked} needs model.freeze=backbone, and no mask head")
    if asked is None or not frozen or (asked == "auto" and not is_plain(trainer.augment)):
        return trainer
    n_transforms = asked if isinstance(asked, int) else 0
    place = trainer.batches.store.folder / f"features-{key_of(trainer, model, n_transforms)[:16]}.npz"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            remove_leftovers(place)
            features, of_views = computed(trainer, model, n_transforms, advance)
            with atomic_path(place) as beside, beside.open("wb") as file:
                np.savez(file, features=features, labels=of_views)
    kept = np.load(place)
    shared = {one.name: getattr(trainer, one.name) for one in fields(Trainer)}
    batches = FeatureBatches(trainer.batches, torch.from_numpy(kept["features"]))
    labels = torch.from_numpy(kept["labels"])
    return FeatureTrainer(**shared | {"batches": batches}, images=trainer, transform_labels=labels)


def is_plain(augment: Augment) -> bool:
    """Whether training sees what evaluation sees."""
    return augment == Augment(
        erase_side=augment.erase_side,
        relabel_lost_below=augment.relabel_lost_below,
        relabel_kept_from=augment.relabel_kept_from,
    )


def key_of(trainer: Trainer, model: Classifier, n_transforms: int) -> str:
    """Of all that the features and their labels depend on, as 64 hex digits."""
    return identity.digest(
        trainer.batches.store.key,
        trainer.batches.labels(np.arange(len(trainer.image_ids))),
        trainer.batches.store.has_mask,
        repr(
            (
                trainer.augment,
                trainer.normalise,
                trainer.accelerator.dtype,
                trainer.accelerator.device.type,
                n_transforms,
            )
        ),
        trainer.seed if n_transforms else None,
        model.backbone.state_dict(),
    )


@torch.inference_mode()
def computed(
    trainer: Trainer, model: Classifier, n_transforms: int, advance: Callable[[int, int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 1 + K, F) and labels (N, 1 + K), float32."""
    model.eval()
    n = len(trainer.image_ids)
    draws = [
        trainer.augment.draw(n, torch.Generator().manual_seed(1_000_003 * trainer.seed + view))
        for view in range(n_transforms)
    ]
    features: list[Tensor] = []
    labels: list[Tensor] = []
    for rows in in_batches(np.arange(n), 2 * trainer.settings.batch_size):
        (batch,) = trainer.batches.each([rows])
        seen, said = [trainer.augment.evaluation(batch.images)], [batch.labels]
        for drawn in draws:
            view, transform_labels = trainer.view(batch, drawn[rows].to(trainer.accelerator.device))
            seen.append(view)
            said.append(transform_labels)
        with trainer.accelerator.precision():
            passed = [
                model.backbone(trainer.normalise(view).contiguous(memory_format=trainer.memory_format))
                for view in seen
            ]
        features.append(torch.stack([one.float().cpu() for one in passed], dim=1))
        labels.append(torch.stack([one.cpu() for one in said], dim=1))
        advance(int(rows[-1]) + 1, n)
    return torch.cat(features).numpy(), torch.cat(labels).numpy()
