"""Saliency maps: where in an image the log odds of pneumothorax come from."""

# B images, S side as stored, s side as the model sees them, C channels of a feature map of h x h

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pneumo.errors import InputError
from pneumo.inference.model import LoadedModel

Map = Callable[[LoadedModel, Tensor], np.ndarray]


def grad_cam(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """(B, 1, S, S) uint8 -> (B, S, S) in [0, 1], on a scale of each image's own: the last feature map's
    channels, weighted by their mean gradient, where the sum is above 0 (Selvaraju et al. 2017), brought to
    the image's size. All 0 where no evidence is for pneumothorax, and outside of an evaluation's crop.
    InputError: the model has no feature maps."""
    return scaled_maps(loaded, images, lambda batch: cam(loaded, batch, averaged=True))


def hires_cam(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """As `grad_cam`, each channel weighted at each place by its gradient there (Draelos & Carin 2020). Behind
    average pooling it is the same; behind maximum pooling a mean gradient has lost the place."""
    return scaled_maps(loaded, images, lambda batch: cam(loaded, batch, averaged=False))


def saliency(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """(B, 1, S, S) uint8 -> (B, S, S) in [0, 1], on a scale of each image's own: the size of the gradient
    at each pixel, not smoothed (Simonyan et al. 2014)."""

    def evidence(batch: Tensor) -> Tensor:
        _, log_odds = view_and_log_odds(loaded, batch)
        (gradient,) = torch.autograd.grad(log_odds.sum(), batch)
        return gradient.abs()

    return scaled_maps(loaded, images, evidence)


def mask_head(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """(B, 1, S, S) uint8 -> (B, S, S) in [0, 1], each on its own scale: the lesion by the mask head."""

    def evidence(batch: Tensor) -> Tensor:
        view = loaded.eval_transform.prepare(batch)
        _, lesions = loaded.model(loaded.normalise(view), drawing=True)
        return project_to_image(images=batch, view=view, evidence=lesions.sigmoid())

    return scaled_maps(loaded, images, evidence)


MAPS: dict[str, Map] = {"grad_cam": grad_cam, "hires_cam": hires_cam, "saliency": saliency}
NAMES = {
    "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM",
    "saliency": "saliency",
    "mask_head": "its mask head",
}


def maps_of(loaded: LoadedModel) -> dict[str, Map]:
    return MAPS if loaded.model.mask_head is None else {**MAPS, "mask_head": mask_head}


def scaled_maps(loaded: LoadedModel, images: Tensor, evidence: Callable[[Tensor], Tensor]) -> np.ndarray:
    """(B, S, S), each map divided by its maximum. `evidence` returns (b, 1, S, S) for batches (b, 1, S, S)
    that it is called with, floats of 0 to 255 that have a gradient."""
    maps = []
    for batch in torch.split(images, loaded.experiment.fit.batch_size):
        with torch.enable_grad():
            found = evidence(batch.to(loaded.accelerator.device).float().requires_grad_())[:, 0]
        highest = found.amax(dim=(1, 2), keepdim=True)
        maps.append((found / highest.where(highest > 0, 1)).cpu().numpy())
    return np.concatenate(maps)


def cam(loaded: LoadedModel, images: Tensor, averaged: bool) -> Tensor:
    """(b, 1, S, S) with a gradient -> (b, 1, S, S), the class activation map; `averaged`: as in Grad-CAM."""
    with last_feature_map(loaded.model.backbone) as seen:
        view, log_odds = view_and_log_odds(loaded, images)
    if not seen:
        raise InputError("Grad-CAM needs a model with feature maps in two dimensions; this one has none")
    features = seen[-1]
    (gradient,) = torch.autograd.grad(log_odds.sum(), features)
    weights = gradient.mean(dim=(2, 3), keepdim=True) if averaged else gradient
    evidence = (weights * features).sum(dim=1, keepdim=True).relu()
    return project_to_image(images, view, evidence)


def project_to_image(images: Tensor, view: Tensor, evidence: Tensor) -> Tensor:
    """A map (b, 1, h, h) of a view (b, 1, s, s) -> (b, 1, S, S) on the images that the view is a crop of."""
    over_view = F.interpolate(evidence, view.shape[2:], mode="bilinear", align_corners=False)
    # the transpose of the crop places the map back on the image
    (over_image,) = torch.autograd.grad(view, images, over_view.detach())
    return over_image


def view_and_log_odds(loaded: LoadedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """(b, 1, S, S) -> (b, 1, s, s) in [0, 1] as in evaluation, and (b,) log odds; all in fp32."""
    view = loaded.eval_transform.prepare(images)
    logits = loaded.model(loaded.normalise(view))
    return view, logits[:, -1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]


@contextmanager
def last_feature_map(backbone: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open: the last (b, C, h, h) that one of the backbone's modules gave, h above 1. Images are
    square, so that what is not is no map: some networks keep their channels last."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            seen[:] = [output]

    hooks = [module.register_forward_hook(keep) for module in backbone.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
