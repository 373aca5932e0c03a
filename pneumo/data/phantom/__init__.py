"""Synthetic chest radiographs with the statistics and the confounders of SIIM-ACR: tables, images and masks.

The anatomy comes from a random stream of the patient, the acquisition and the lesion from one of the image,
so that an image depends on its row and the seed alone. It is the same in every run on one machine; another
processor or library version may round differently."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.data.phantom import devices
from pneumo.data.phantom.chest import Lungs, Vessels, chest
from pneumo.data.phantom.exposure import expose
from pneumo.data.phantom.frame import Frame, Streams
from pneumo.data.phantom.lesion import Pneumothorax
from pneumo.data.phantom.patients import studies
from pneumo.data.phantom.style import STYLES, RowStyles, styles_of

__all__ = ["STYLES", "VERSION", "draw", "studies", "styles_of"]

VERSION = 1

SMOOTH_SIDE_PX = 256  # larger images have their smooth parts drawn at half the resolution
BLOCK_PIXELS = 2**20  # approximate number in one block of images
PART_PIXELS = 2**17  # of one part of a block


def draw(
    studies: pd.DataFrame, side_px: int, seed: int, device: str = "cpu"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields blocks of pixels and masks (0 or 255), uint8 (b, side, side), in the order of the table.
    Raises ValueError if the side is not from 64 to 1024 pixels."""
    if not 64 <= side_px <= 1024:
        raise ValueError(f"the phantom is drawn between 64 and 1024 pixels a side, got side_px={side_px}")
    size = max(1, min(32, BLOCK_PIXELS // side_px**2))
    blocks = (studies.iloc[start : start + size] for start in range(0, len(studies), size))

    def drawn(block: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            pixels, masks = _draw_block(block, side_px, seed, torch.device(device))
        return pixels.cpu().numpy(), masks.cpu().numpy()

    threads = torch.get_num_threads()
    if threads == 1 or device != "cpu":
        yield from map(drawn, blocks)
    else:
        yield from _in_threads(drawn, blocks, threads)


def _in_threads(
    drawn: Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]],
    blocks: Iterator[pd.DataFrame],
    threads: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what `drawn` returns of each block, in order. A block a thread is faster than an operation in
    all threads, most of which are short."""
    try:
        with ThreadPoolExecutor(threads, "phantom", lambda: torch.set_num_threads(1)) as pool:
            waiting = deque(pool.submit(drawn, block) for block in islice(blocks, threads + 1))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(drawn, block) for block in islice(blocks, 1))
                yield result
    finally:
        torch.set_num_threads(threads)  # which the threads have set for later ones too


def _draw_block(block: pd.DataFrame, side_px: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    def column(values: pd.Series) -> Tensor:
        return torch.tensor(values.to_numpy(dtype=np.float32), device=device)[:, None]

    def streams(purpose: str, key: str, rows: Tensor | None = None) -> Streams:
        keys = block[key] if rows is None else block[key].iloc[rows.tolist()]
        return Streams([f"{seed}/{purpose}/{k}" for k in keys], device)

    area, is_ap, is_male = column(block["area"]), column(block["view"] == "AP"), column(block["sex"] == "M")
    patient, image = streams("patient", "patient_id"), streams("image", "image_id")
    style = RowStyles.of(block["style"].tolist(), device)
    frame = Frame(
        zoom=(image.normal(0.96, 0.065) * style.field).clamp(min=Frame.SMALLEST_ZOOM),
        tilt_radians=image.normal(0.0, 0.04) * (1 + 0.5 * is_ap),
        shift_x=image.normal(0.0, 0.05),
        shift_y=image.normal(-0.17, 0.07),
    )
    lungs = Lungs.draw(patient, image, is_ap)
    smooth_px = side_px if side_px <= SMOOTH_SIDE_PX else max(SMOOTH_SIDE_PX, side_px // 2)
    vessels = Vessels.draw(patient, smooth_px)

    masks = torch.zeros(len(block), side_px**2, dtype=torch.uint8, device=device)
    details = torch.zeros(len(block), side_px**2, device=device)
    crescent = torch.zeros(len(block), smooth_px**2, device=device)
    on_right = image.chance(0.48)  # of lesion and tube
    sick = _rows(area > 0)
    if len(sick):
        theirs, their_frame = lungs.rows(sick), frame.rows(sick)
        own = streams("lesion", "image_id", sick)
        lesion = Pneumothorax.draw(theirs, their_frame, own, style.rows(sick), area[sick], on_right[sick])
        mask, air, line = lesion.paint(theirs, their_frame, side_px)
        masks[sick] = mask.to(torch.uint8) * 255
        details[sick] += line
        crescent[sick] = _resized(air, side_px, smooth_px)
        lesion.collapse(vessels, theirs, sick)

    smooth = torch.empty_like(crescent)
    for part in _parts(len(block), smooth_px, device):
        of_part = image.rows(part)
        smooth[part] = chest(
            *(lungs.rows(part), frame.rows(part), patient.rows(part), of_part, style.rows(part)),
            *(is_ap[part], is_male[part], smooth_px, crescent[part], vessels.rows(part)),
        )
    image.go_on_after(of_part)
    field = _resized(smooth, smooth_px, side_px)
    if len(sick):
        # A share, not a difference: the ribs still show through the air.
        field[sick] *= 1 - lesion.darkness * air

    if len(rows := _rows(column(block["tube"]) > 0)):
        own = streams("tube", "image_id", rows)
        details[rows] += devices.chest_tube(frame.rows(rows), own, on_right[rows], side_px)
    for name, thing, share in (
        ("wires", devices.wires, (0.06 + 0.40 * is_ap) * style.leads),
        ("lines", devices.lines_and_airway, (0.03 + 0.32 * is_ap) * style.leads),
        ("fold", devices.skin_fold, (0.05 + 0.20 * is_ap) * style.folds),
        ("marker", devices.side_marker, 0.8 * style.markers),
    ):
        if len(rows := _rows(image.chance(share))):
            details[rows] += thing(frame.rows(rows), streams(name, "image_id", rows), side_px)

    field += details
    pixels = torch.empty_like(masks)
    for part in _parts(len(block), side_px, device):
        pixels[part] = expose(
            field[part], image.rows(part), frame.rows(part), style.rows(part), is_ap[part], side_px
        )
    return pixels.reshape(-1, side_px, side_px), masks.reshape(-1, side_px, side_px)


def _parts(n: int, side_px: int, device: torch.device) -> list[slice]:
    """Returns the rows of a block in parts whose temporary arrays stay in the cache of a CPU."""
    size = max(1, PART_PIXELS // side_px**2) if device.type == "cpu" else n
    return [slice(start, start + size) for start in range(0, n, size)]


def _rows(condition: Tensor) -> Tensor:
    return condition[:, 0].nonzero()[:, 0]


def _resized(flat: Tensor, from_px: int, to_px: int) -> Tensor:
    """Returns images (B, from * from) as (B, to * to)."""
    if from_px == to_px:
        return flat
    square = flat.reshape(-1, 1, from_px, from_px)
    return F.interpolate(square, (to_px, to_px), mode="bilinear", antialias=to_px < from_px).flatten(1)
