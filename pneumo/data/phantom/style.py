"""Styles of the phantom: how the radiographs of hospitals differ, in appearance and in difficulty."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pneumo.errors import InputError


@dataclass(frozen=True)
class Style:
    """What a style changes. A field without a unit is a factor on the value that the default style has."""

    lesion_area: float = 1.0  # median
    lesion_spread: float = 1.0  # standard deviation of the logarithm of the area
    tubes: float = 1.0  # share of the positives with a chest tube
    tubes_in_negatives: float = 1.0  # share of the negatives with one
    line: float = 1.0  # attenuation of the pleural line
    line_width: float = 1.0
    air: float = 1.0  # how much darker the air is than lung
    bones: float = 1.0  # attenuation
    vessels: float = 1.0  # attenuation
    texture: float = 1.0  # amplitude of the lung's fine texture
    tissue: float = 1.0  # thickness of the trunk
    folds: float = 1.0  # share of the images with a skin fold
    bullae: float = 1.0  # share of the patients with a bulla
    opacities: float = 1.0  # probability of each opacity
    leads: float = 1.0  # share of the images with wires, and of those with lines
    markers: float = 1.0  # share of the images with a side marker
    field: float = 1.0  # side of the field that the image shows
    margin: float = 0.0  # added to the collimated margins, as a share of the side
    blur_mm: float = 0.0  # standard deviation of the blur of detector and motion
    noise: float = 1.0  # standard deviation
    window: float = 1.0  # width of the window; wider is flatter
    level: float = 0.0  # attenuation that is added to both ends of the window; more is darker
    gamma: float = 1.0  # more is darker

    def changes(self) -> str:
        """Returns the fields that differ from the default style's, by which the content of styles is
        compared: a field that is added later does not change it. "" for the default style."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return " ".join(f"{name}={value}" for name, value in values.items() if value != getattr(Style, name))


FIELDS = {field.name: position for position, field in enumerate(fields(Style))}

STYLES = {
    # A mixture of all devices and patients, as in SIIM-ACR.
    "default": Style(),
    # Upright patients at a modern digital detector: sharp, little noise, few findings besides.
    "crisp": Style(
        line=1.4,
        line_width=1.3,
        air=1.15,
        noise=0.5,
        folds=0.4,
        opacities=0.5,
        tubes_in_negatives=0.4,
        leads=0.4,
    ),
    # Expiration films with shallow collapse: the air is hardly darker than lung, the line thin, folds many.
    "faint": Style(line=0.75, line_width=0.75, air=0.5, folds=3.0, tubes=0.6),
    # Bedside films of an intensive care unit: grainy and blurred, wires and tubes in most.
    "portable": Style(
        noise=2.4,
        blur_mm=1.2,
        window=1.2,
        tubes=1.3,
        tubes_in_negatives=5.0,
        leads=2.2,
        folds=2.0,
        opacities=2.0,
    ),
    # Films that show shoulders, neck and abdomen: the chest fills half of the image.
    "distant": Style(field=1.4, lesion_area=0.55, margin=0.07),
    # Digitised films of stout patients: blurred, grey, without black or white.
    "soft": Style(window=1.8, level=-0.42, blur_mm=1.6, tissue=1.12, texture=0.7, markers=0.4, noise=0.8),
    # Edge-enhanced images: strong ribs, vessels and interstitial texture.
    "coarse": Style(bones=1.9, vessels=1.7, texture=2.4, line=1.1, noise=1.3, blur_mm=0.4),
    # Early or residual lesions: most are small, and few have been drained.
    "tiny": Style(lesion_area=0.3, lesion_spread=0.65, tubes=0.5),
    # Overexposed films: the lungs are nearly black.
    "dark": Style(gamma=1.7, level=0.06, margin=0.02, noise=0.8, markers=0.6),
    # Emphysema, folds and drains of other reasons: what looks like a pneumothorax is often none.
    "mimics": Style(folds=4.0, bullae=6.0, opacities=1.6, tubes_in_negatives=6.0, leads=1.4),
}


def styles_of(style: object) -> list[str]:
    """Returns the names that `data.style` gives, one or a list. Raises InputError if one is unknown."""
    names = [style] if isinstance(style, str) else style
    known = ", ".join(STYLES)
    if not isinstance(names, list) or not names:
        raise InputError(f"data.style must be a name or a list of names, got {style!r}; there are: {known}")
    for name in names:
        if name not in STYLES:
            near = get_close_matches(str(name), STYLES, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"data.style: there is no style {name!r}; {guess}all are: {known}")
    return names


def column(names: Iterable[str], field: str) -> npt.NDArray[np.float64]:
    """Returns a field of the styles with these names, float64 (B,)."""
    return np.array([getattr(STYLES[name], field) for name in names])


class RowStyles:
    """The styles of B images: every field of Style is an attribute, a tensor (B, 1)."""

    def __init__(self, values: Tensor) -> None:
        """`values` are (B, fields)."""
        self._values = values

    @classmethod
    def of(cls, names: Sequence[str], device: torch.device) -> "RowStyles":
        """Returns the styles with these names."""
        known = list(dict.fromkeys(names))
        values = torch.tensor([astuple(STYLES[name]) for name in known], device=device)
        return cls(values[[known.index(name) for name in names]])

    def rows(self, rows: Tensor | slice) -> "RowStyles":
        return RowStyles(self._values[rows])

    def __getattr__(self, field: str) -> Tensor:
        at = FIELDS[field]
        return self._values[:, at : at + 1]
