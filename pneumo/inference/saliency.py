"""Saliency maps: where in an image the log odds of pneumothorax come from."""

# B images, S side as stored, s side as the model sees them, C channels of a feature map of h x h

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pneumo.errors import InputError
from pneumo.inference.model import LoadedModel


class NoFeatureMapsError(InputError):
    """The model has no feature maps, of which Grad-CAM and HiResCAM are made."""


Map = Callable[[LoadedModel, Tensor], np.ndarray]
CAMS = ("grad_cam", "hires_cam")
NAMES = {
    "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM",
    "saliency": "saliency",
    "mask_head": "its mask head",
}


def grad_cam(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """(B, 1, S, S) uint8 -> (B, S, S), see `compute_maps`: the last feature map's channels, weighted by their
    mean gradient, where the sum is above 0 (Selvaraju et al. 2017), brought to the image's size."""
    return compute_maps(loaded, images, ["grad_cam"])["grad_cam"]


def hires_cam(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """As `grad_cam`, each channel weighted at each place by its gradient there (Draelos & Carin 2020). Behind
    average pooling it is the same; behind maximum pooling a mean gradient has lost the place."""
    return compute_maps(loaded, images, ["hires_cam"])["hires_cam"]


def saliency(loaded: LoadedModel, images: Tensor) -> np.ndarray:
    """(B, 1, S, S) uint8 -> (B, S, S), see `compute_maps`: the size of the gradient at each pixel, not
    smoothed (Simonyan et al. 2014)."""
    return compute_maps(loaded, images, ["saliency"])["saliency"]


MAPS: dict[str, Map] = {"grad_cam": grad_cam, "hires_cam": hires_cam, "saliency": saliency}


def names_of(loaded: LoadedModel) -> list[str]:
    """The names of the maps that a model has; that of its mask head is the lesion that it draws."""
    return [*MAPS, *(["mask_head"] if loaded.model.mask_head is not None else [])]


def compute_maps(
    loaded: LoadedModel,
    images: Tensor,
    names: Collection[str],
    on_batch: Callable[[int], None] = lambda n_images: None,
) -> dict[str, np.ndarray]:
    """(B, 1, S, S) uint8 -> the maps of these names, (B, S, S) in [0, 1] each, on a scale of each image's
    own; all 0 where no evidence is for pneumothorax, and outside of an evaluation's crop. Maps of one image
    share one pass through the network. `on_batch` is called with the number of images of each batch that is
    done. InputError: the model has no feature maps, which Grad-CAM and HiResCAM need."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def compute(batch: Tensor, size: int) -> list[dict[str, np.ndarray]]:
        return [_scaled_maps(loaded, part, names) for part in torch.split(batch, size)]

    for batch in torch.split(images, loaded.experiment.fit.batch_size):
        for maps in loaded.accelerator.with_size_that_fits(partial(compute, batch), len(batch)):
            for name, each in maps.items():
                found[name].append(each)
        on_batch(len(batch))
    return {name: np.concatenate(maps) for name, maps in found.items()}


def _scaled_maps(loaded: LoadedModel, images: Tensor, names: Collection[str]) -> dict[str, np.ndarray]:
    """(b, 1, S, S) uint8 -> (b, S, S) of each name, its maximum 1 or all 0."""
    with torch.enable_grad():
        pixels = images.to(loaded.accelerator.device).float().requires_grad_()
        evidence = evidence_of(loaded, pixels, names)
    highest = {name: maps.amax(dim=(2, 3), keepdim=True) for name, maps in evidence.items()}
    return {
        name: (maps / highest[name].where(highest[name] > 0, 1))[:, 0].detach().cpu().numpy()
        for name, maps in evidence.items()
    }


def evidence_of(loaded: LoadedModel, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """(b, 1, S, S), floats of 0 to 255 that have a gradient -> (b, 1, S, S) of each name, not scaled."""
    view = loaded.eval_transform.prepare(images)  # (b, 1, s, s) in [0, 1], as in evaluation
    inputs = loaded.normalise(view).contiguous(memory_format=loaded.eval_transform.memory_format)
    lesions = None
    with last_feature_map(loaded.model.backbone) as seen:
        if "mask_head" in names:
            logits, lesions = loaded.model(inputs, drawing=True)
        else:
            logits = loaded.model(inputs)
    log_odds = logits[:, -1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]

    cams = [name for name in CAMS if name in names]
    if cams and not seen:
        raise NoFeatureMapsError(
            "Grad-CAM needs a model with feature maps in two dimensions; this one has none"
        )
    sources = [*(seen[-1:] if cams else []), *([images] if "saliency" in names else [])]
    gradients = list(torch.autograd.grad(log_odds.sum(), sources, retain_graph=True)) if sources else []
    evidence: dict[str, Tensor] = {}
    for name in cams:
        weights = gradients[0].mean(dim=(2, 3), keepdim=True) if name == "grad_cam" else gradients[0]
        over_features = (weights * seen[-1]).sum(dim=1, keepdim=True).relu()
        evidence[name] = project_to_image(images, view, over_features)
    if "saliency" in names:
        evidence["saliency"] = gradients[-1].abs()
    if lesions is not None:
        evidence["mask_head"] = project_to_image(images, view, lesions.sigmoid())
    return evidence


def project_to_image(images: Tensor, view: Tensor, evidence: Tensor) -> Tensor:
    """A map (b, 1, h, h) of a view (b, 1, s, s) -> (b, 1, S, S) on the images that the view is a crop of."""
    over_view = F.interpolate(evidence, view.shape[2:], mode="bilinear", align_corners=False)
    # the transpose of the crop places the map back on the image
    (over_image,) = torch.autograd.grad((view * over_view.detach()).sum(), images, retain_graph=True)
    return over_image


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
