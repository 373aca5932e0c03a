"""The exposure: blur, grain, window and collimation turn a field of attenuation into grey values.

Shapes and units are those of frame.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.data.phantom import devices
from pneumo.data.phantom.frame import MM, Frame, Streams
from pneumo.data.phantom.style import RowStyles


def expose(
    field: Tensor, image: Streams, frame: Frame, style: RowStyles, is_ap: Tensor, side_px: int
) -> Tensor:
    """Returns attenuation (B, N) as the detector and the window show it: uint8 (B, N)."""
    field = _blurred(field, style.blur_mm * MM / frame.pixel_size(side_px), side_px)
    # Grain per pixel falls with the pixels' size, though not as fast as for a detector without scatter.
    grain = image.uniform(0.010, 0.028) * (1 + 0.4 * is_ap) * (side_px / 512) ** 0.5 * style.noise
    noise = image.pixel_noise(side_px).flatten(1).to(field.device)
    field = field + noise * grain * (0.5 + 0.6 * field)
    low, high = image.normal(0.05, 0.035), image.normal(1.06, 0.07)
    bend, gamma = image.uniform(0.8, 1.6), image.normal(0.95, 0.12) * style.gamma
    shown = ((field - (low + style.level)) / ((high - low) * style.window)).clamp(min=0)
    shown = torch.tanh(bend * shown) / torch.tanh(bend)
    shown = shown.clamp(0, 1).pow(gamma)
    shown = shown * devices.collimation(image, style.margin, side_px)
    return (shown * 250 + 2).round().clamp(0, 255).to(torch.uint8)


def _blurred(field: Tensor, sigma_px: Tensor, side_px: int) -> Tensor:
    """Returns images (B, N) convolved with a Gaussian; those with a sigma (B, 1) of 0 as they are."""
    for row in sigma_px[:, 0].nonzero()[:, 0].tolist():
        sigma = float(sigma_px[row])
        reach = max(1, round(3 * sigma))
        near = torch.arange(-reach, reach + 1, device=field.device)
        # The integral over a pixel, since sigma may be smaller than one.
        edges = torch.special.ndtr((torch.cat([near, near[-1:] + 1]) - 0.5) / sigma)
        weight = edges.diff() / edges.diff().sum()
        square = F.pad(field[row].reshape(1, 1, side_px, side_px), [reach] * 4, mode="replicate")
        across = F.conv2d(square, weight.reshape(1, 1, 1, -1))
        field[row] = F.conv2d(across, weight.reshape(1, 1, -1, 1)).flatten()
    return field
