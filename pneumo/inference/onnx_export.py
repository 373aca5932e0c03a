"""A trained model as one ONNX graph from image to score: crop, normalisation, tta, network and loss."""

# B images, S their side

import logging
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pneumo.errors import InputError
from pneumo.inference.model import LoadedModel
from pneumo.training.device import Accelerator
from pneumo.training.predict import EvalTransform, TtaTransform, mean_logits, tta_transforms

MAX_DIFFERENCE = 1e-4  # the most that ONNX's scores may differ from torch's
COMPARED = 16  # images


class Network(nn.Module):
    """(B, 1, S, S) uint8 -> (B,) P(pneumothorax), in fp32 on the CPU."""

    def __init__(self, loaded: LoadedModel):
        super().__init__()
        self.model = deepcopy(loaded.model).cpu().eval()
        self._loss, self._side_px = loaded.loss, loaded.side_px
        self._tta_transforms: list[TtaTransform] = tta_transforms(loaded.experiment.tta)
        precision = Accelerator.chosen("cpu", "fp32").precision
        layout = torch.contiguous_format
        self._eval_transform = EvalTransform(
            loaded.experiment.augment.evaluation, loaded.normalise, precision, layout
        )

    def forward(self, images: Tensor) -> Tensor:
        logits = mean_logits(self.model, images, self._eval_transform, self._tta_transforms)
        return self._loss.probability(logits)


def export(loaded: LoadedModel, path: Path) -> float:
    """Writes the graph, input `images`, output `score`, any number of images; returns the largest difference
    to torch's scores on generated noise of several scales. InputError: the extra `serve` is not installed,
    the network cannot be exported, or the graph's scores differ from torch's."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError as error:
        raise InputError(f"{error.name} is not installed: pip install 'pneumo[serve]'") from None
    network = Network(loaded).eval()
    images = noise(COMPARED, loaded.side_px)
    try:
        write_graph(network, images, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except OSError:  # a disk may be full
        raise
    except Exception as error:  # of torch.export, onnxscript and onnxruntime, each with its own
        reason = next(iter(str(error).splitlines()), "")
        name = type(loaded.model).__name__
        raise InputError(f"{name} cannot be exported to ONNX: {type(error).__name__}: {reason}") from error
    with torch.no_grad():
        expected = network(images).numpy()
    difference = 0.0
    for count in (1, COMPARED):
        (scores,) = session.run(["score"], {"images": images[:count].numpy()})
        difference = max(difference, float(np.abs(scores - expected[:count]).max()))
    if not difference <= MAX_DIFFERENCE:
        raise InputError(
            f"ONNX's scores differ from torch's by {difference:.2g}, above {MAX_DIFFERENCE}: nothing is "
            "registered"
        )
    return difference


def write_graph(network: Network, images: Tensor, path: Path) -> None:
    """Writes the ONNX graph of a network that takes (B, 1, S, S) images, as those given, of any number B."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images,),
            str(path),
            input_names=["images"],
            output_names=["score"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def noise(n: int, side_px: int) -> Tensor:
    """(n, 1, S, S) uint8: clouds from coarse to fine, so that the scores differ."""
    generator = torch.Generator().manual_seed(0)
    clouds = []
    for number in range(n):
        cells = 2 ** (1 + number % 5)
        grid = torch.rand(1, 1, cells, cells, generator=generator)
        clouds.append(nn.functional.interpolate(grid, (side_px, side_px), mode="bilinear"))
    return (torch.cat(clouds) * 255).round().to(torch.uint8)
