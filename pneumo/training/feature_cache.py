"""Computes what a frozen backbone makes of every image once and keeps it in the store's folder, so that an
epoch trains one small layer alone."""

# N images, K augmented views of each, F features

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from pneumo.components.augment import Augment
from pneumo.components.models import Classifier
from pneumo.data.atomic import atomic_path, remove_leftovers
from pneumo.data.batches import in_batches
from pneumo.data.contents import digest
from pneumo.errors import InputError
from pneumo.training.examples import CachedFeatures
from pneumo.training.trainer import Trainer


def with_cached_features(
    trainer: Trainer, model: Classifier, frozen: bool, advance: Callable[[int, int], None]
) -> Trainer:
    """The same trainer on cached features, where `fit.cache_features` wants them: a number of augmented
    views of each image, or "auto": the plain images, where they are not augmented and the backbone is frozen.
    `advance(done, total)` is called as images are done. InputError: the backbone is not frozen."""
    wanted = trainer.settings.cache_features
    if isinstance(wanted, int) and not frozen:
        raise InputError(f"fit.cache_features={wanted} needs model.freeze=backbone, and no mask head")
    if wanted is None or not frozen or (wanted == "auto" and not is_plain(trainer.augment)):
        return trainer
    n_views = wanted if isinstance(wanted, int) else 0
    place = trainer.batches.store.folder / f"features-{key_of(trainer, model, n_views)[:16]}.npz"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            remove_leftovers(place)
            features, labels = computed(trainer, model, n_views, advance)
            with atomic_path(place) as beside, beside.open("wb") as file:
                np.savez(file, features=features, labels=labels)
    device = trainer.accelerator.device
    cached = {name: torch.from_numpy(array).to(device) for name, array in np.load(place).items()}
    return replace(trainer, features=CachedFeatures(**cached, accelerator=trainer.accelerator))


def is_plain(augment: Augment) -> bool:
    """Whether training sees what evaluation sees."""
    return augment == Augment(
        erase_side=augment.erase_side,
        relabel_lost_below=augment.relabel_lost_below,
        relabel_kept_from=augment.relabel_kept_from,
    )


def key_of(trainer: Trainer, model: Classifier, n_views: int) -> str:
    """A hash of all that the features and their labels depend on, as 64 hex digits."""
    return digest(
        trainer.batches.store.key,
        trainer.batches.labels(np.arange(len(trainer.image_ids))),
        trainer.batches.store.has_mask,
        repr(
            (
                trainer.augment,
                trainer.normalise,
                trainer.accelerator.dtype,
                trainer.accelerator.device.type,
                n_views,
            )
        ),
        trainer.seed if n_views else None,
        model.backbone.state_dict(),
    )


def computed(
    trainer: Trainer, model: Classifier, n_views: int, advance: Callable[[int, int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 1 + K, F) and labels (N, 1 + K), float32, of as many images at once as the memory holds.
    TooLittleMemoryError: it does not hold a single one."""
    return trainer.accelerator.with_size_that_fits(
        partial(in_batches_of, trainer, model, n_views, advance), 2 * trainer.settings.batch_size
    )


@torch.inference_mode()
def in_batches_of(
    trainer: Trainer, model: Classifier, n_views: int, advance: Callable[[int, int], None], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same of `size` images at once."""
    model.eval()
    n = len(trainer.image_ids)
    draws = [
        trainer.augment.draw(n, torch.Generator().manual_seed(1_000_003 * trainer.seed + view))
        for view in range(n_views)
    ]
    features: list[Tensor] = []
    labels: list[Tensor] = []
    for rows in in_batches(np.arange(n), size):
        (batch,) = trainer.batches.each([rows])
        views = [(trainer.augment.evaluation(batch.images), batch.labels)]
        for of_view in draws:
            images, view_labels, _ = trainer.augmented(batch, of_view[rows].to(trainer.accelerator.device))
            views.append((images, view_labels))
        with trainer.accelerator.precision():
            of_images = [
                model.backbone(trainer.normalise(images).contiguous(memory_format=trainer.memory_format))
                for images, _ in views
            ]
        features.append(torch.stack([one.float().cpu() for one in of_images], dim=1))
        labels.append(torch.stack([view_labels.cpu() for _, view_labels in views], dim=1))
        advance(int(rows[-1]) + 1, n)
    return torch.cat(features).numpy(), torch.cat(labels).numpy()
