"""The anatomy of a chest as a field of attenuation, smooth enough to be drawn at half the resolution.

Shapes and units are those of frame.py; parameters are (B, 1), those of the two lungs (B, 2).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pneumo.data.phantom.frame import MM, Frame, Streams, body_strokes, decay, n_points, pick, soft_step
from pneumo.data.phantom.style import RowStyles

TEXTURE_CELLS = (10, 20, 32)  # a side, of each octave
BRANCHES = (7, 14, 28, 56)  # vessels of a lung, by generation
BRANCH_LENGTHS = (0.17, 0.16, 0.14, 0.12)
BRANCH_SIGMAS = (0.0135, 0.0095, 0.0062, 0.0040)
BRANCH_AMPLITUDES = (0.15, 0.13, 0.105, 0.08)


@dataclass
class Lungs:
    """The outlines of both lungs. Fields are (B, 2), harmonics and phases (B, 2, 3)."""

    center_x: Tensor
    center_y: Tensor
    half_width: Tensor
    half_height: Tensor
    shear: Tensor
    harmonics: Tensor
    phases: Tensor
    dome_y: Tensor
    effusion: Tensor

    @classmethod
    def draw(cls, patient: Streams, image: Streams, is_ap: Tensor) -> "Lungs":
        size = patient.normal(1.0, 0.05)
        slimness = patient.normal(1.0, 0.05)
        breath = image.normal(0.0, 0.03) - 0.06 * is_ap
        blunted = image.chance(0.08 + 0.1 * is_ap, 2)
        return cls(
            center_x=patient.normal(0.43, 0.012, 2) * size,
            center_y=patient.normal(-0.07, 0.02) + patient.normal(0.0, 0.012, 2),
            half_width=patient.normal(0.345, 0.014, 2) * size * slimness,
            half_height=patient.normal(0.71, 0.02, 2) * size / slimness,
            shear=patient.normal(0.18, 0.03, 2),
            harmonics=patient.normal(0.0, 0.012, 2, 3),
            phases=patient.uniform(0.0, 6.283, 2, 3),
            dome_y=patient.normal(0.34, 0.03)
            + patient.normal(0.0, 0.015, 2)
            + breath
            + torch.tensor([-0.02, 0.02], device=size.device),
            effusion=blunted * image.uniform(0.05, 0.28, 2),
        )

    def rows(self, rows: Tensor | slice) -> "Lungs":
        return Lungs(**{name: value[rows] for name, value in vars(self).items()})

    def one(self, on_right: Tensor) -> "Lungs":
        """Returns the lungs of one side (B, 1) each, as fields of (B, 1) and (B, 1, 3)."""
        wide = on_right[..., None]
        fields = vars(self).items()
        return Lungs(**{name: pick(v, wide if v.ndim == 3 else on_right) for name, v in fields})

    def relative(self, x: Tensor, y: Tensor, on_right: Tensor) -> tuple[Tensor, Tensor]:
        """Returns points in the lung's axes, x lateral and y down, (B, N) each; its outline is near radius
        1."""
        from_center = y - pick(self.center_y, on_right)
        lateral = x.abs() - pick(self.center_x, on_right) - pick(self.shear, on_right) * from_center
        return lateral / pick(self.half_width, on_right), from_center / pick(self.half_height, on_right)

    def outline(self, angle: Tensor, on_right: Tensor) -> Tensor:
        """Returns the radius (B, N) of the chest wall at angles (0 apex, pi/2 lateral), in the lung's
        axes."""
        radius = 1 + 0.075 * torch.sin(2 * angle).square()  # squarer than an ellipse
        for k in range(3):
            phase = pick(self.phases[..., k], on_right)
            radius += pick(self.harmonics[..., k], on_right) * torch.cos((k + 2) * angle + phase)
        return radius

    def polar(self, across: Tensor, down: Tensor, on_right: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the radius, 1 at the chest wall, and the angle of points in the lung's axes, (B, N)
        each."""
        angle = torch.atan2(across, -down)
        return (across.square() + down.square()).sqrt() / self.outline(angle, on_right), angle

    def diaphragm(self, x: Tensor, on_right: Tensor) -> Tensor:
        """Returns y (B, N) of the lung's lower border at x."""
        ax = x.abs()
        q = (ax - 0.40) / 0.36
        lateral = q.clamp(min=0)
        dome = pick(self.dome_y, on_right) + 0.07 * q.square() + 0.09 * lateral.square().square()
        meniscus = decay(0.5 * ((ax - 0.86) / 0.14).square())
        return dome - pick(self.effusion, on_right) * meniscus


def chest(
    lungs: Lungs, frame: Frame, patient: Streams, image: Streams, style: RowStyles, is_ap: Tensor,
    is_male: Tensor, side_px: int, crescent: Tensor, vessels: "Vessels",
) -> Tensor:  # fmt: skip
    """Returns the attenuation (B, side * side), given the air without lung (`crescent`) and the vessels."""
    x, y = frame.body(side_px)
    on_right = (x > 0).float()
    ax = x.abs()
    across, down = lungs.relative(x, y, on_right)
    r, _ = lungs.polar(across, down, on_right)
    below = soft_step(y - lungs.diaphragm(x, on_right), 0.010)
    inside = soft_step(1 - r, 0.022)
    lung = inside * (1 - below)

    # Trunk, shoulders, neck; arms beside it.
    neck, slope = patient.uniform(0.24, 0.32), patient.uniform(0.28, 0.42)
    trunk = patient.normal(1.02, 0.05)
    shoulder = -0.95 + slope * (ax - neck) + image.normal(0.0, 0.03)
    body = soft_step(torch.maximum(neck - ax, y - shoulder), 0.02)
    body *= soft_step(trunk + 0.1 * (y + 0.3) - ax, 0.02)
    stoutness = patient.normal(1.0, 0.10) * style.tissue
    field = body * (0.75 + 0.08 * (y + 0.2) - 0.16 * (ax - 0.5)) * stoutness

    aeration = patient.normal(0.56, 0.03)
    depth = 0.68 + 0.32 * (1 - r.square()).clamp(min=0).sqrt()
    field -= aeration * lung * depth
    flank = soft_step(0.74 - ax, 0.07)
    abdomen = below * body * flank * (0.13 + 0.10 * (y - 0.3))
    bubble_x, bubble_y = patient.normal(0.36, 0.05), patient.normal(0.14, 0.03)
    bubble = ((x - bubble_x) / 0.13).square() + ((y - lungs.dome_y[:, 1:2] - bubble_y) / 0.07).square()
    stomach = patient.uniform(-0.05, 0.16).clamp(min=0) * soft_step(1 - bubble, 0.12) * below
    field += abdomen
    field -= stomach
    shadow, middle = _heart_and_mediastinum(x, y, lung, patient, is_ap)
    field += middle
    field += style.bones * _bones(x, y, on_right, inside, below, lung, patient, image, is_ap)
    field += _soft_tissue(x, y, patient, body, is_male)
    field += style.vessels * vessels.paint(frame, side_px) * (0.10 + 0.90 * lung) * (1 - 0.75 * shadow)

    bulla, opacity = _findings(across, down, on_right, patient, image, style)
    field -= 0.03 * bulla * lung
    grain = _texture(x, y, patient)
    return field + lung * (1 - crescent) * (opacity + grain * (0.045 * style.texture) * (1 - 0.8 * bulla))


def _heart_and_mediastinum(
    x: Tensor, y: Tensor, lung: Tensor, patient: Streams, is_ap: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the shadow (0 to 1) of heart and great vessels, and the attenuation of the mediastinum."""
    size = patient.normal(1.0, 0.09) * (1 + 0.13 * is_ap)
    apex_x, low = patient.normal(0.15, 0.02), patient.normal(0.20, 0.03)
    tilt = patient.normal(0.45, 0.1)
    u, v = x - apex_x, y - low
    along, across = u * tilt.cos() + v * tilt.sin(), v * tilt.cos() - u * tilt.sin()
    left_ventricle = (along / (0.31 * size)).square() + (across / (0.23 * size)).square()
    right_atrium = ((x + 0.045) / (0.185 * size)).square() + ((y - 0.14) / (0.27 * size)).square()
    outflow = ((x - 0.10) / 0.14).square() + ((y + 0.10) / 0.22).square()
    heart = soft_step(1 - torch.minimum(torch.minimum(left_ventricle, right_atrium), outflow), 0.10)

    knob_x, knob_y = patient.normal(0.085, 0.015), patient.normal(-0.35, 0.02)
    knob = ((x - knob_x) / 0.105).square() + ((y - knob_y) / 0.12).square()
    width = patient.normal(0.125, 0.012) * (1 + 0.15 * is_ap) + 0.08 * ((y + 0.25) / 0.5).square()
    mediastinum = soft_step(width - (x - 0.01).abs(), 0.020) * soft_step(0.5 - y, 0.1)
    mediastinum = 1 - (1 - mediastinum) * (1 - 0.85 * soft_step(1 - knob, 0.22))
    hila = torch.zeros_like(x)
    for sign, up in ((-1.0, 0.0), (1.0, 0.03)):
        hx, hy = patient.normal(0.175, 0.012) * sign, patient.normal(-0.10, 0.02) - up
        hila += decay(((x - hx) / 0.055).square() + ((y - hy) / 0.10).square())

    # Over lung they add what the lung took away; over the thick middle little is left to add.
    shadow = torch.maximum(0.92 * heart, 0.95 * mediastinum)
    field = shadow * (0.10 + 0.38 * lung) + patient.uniform(0.05, 0.12) * hila

    trachea_x = patient.normal(-0.01, 0.012)
    trachea = soft_step(0.042 - (x - trachea_x).abs(), 0.008) * soft_step(-0.27 - y, 0.03)
    bronchus_x = 0.75 * (y + 0.30)
    bronchi = soft_step(0.030 - ((x - trachea_x).abs() - bronchus_x).abs(), 0.010)
    bronchi *= soft_step(0.10 - (y + 0.20).abs(), 0.02)
    return shadow, field - 0.13 * torch.maximum(trachea, 0.6 * bronchi)


def _bones(
    x: Tensor, y: Tensor, on_right: Tensor, inside: Tensor, below: Tensor, lung: Tensor,
    patient: Streams, image: Streams, is_ap: Tensor,
) -> Tensor:  # fmt: skip
    ax = x.abs()
    # Spine: vertebral bodies between darker discs, a spinous process in each.
    sway = patient.normal(0.0, 0.012) * torch.sin(2.2 * y + patient.uniform(0.0, 6.283))
    half = 0.075 + 0.012 * (y + 0.3)
    phase = 6.283 * (y + patient.uniform(0.0, 0.1)) / (0.105 + 0.02 * y.clamp(-1, 1))
    vertebra = torch.cos(phase)
    off = x - sway
    spine = soft_step(half * (1 + 0.07 * vertebra) - off.abs(), 0.008)
    process = decay((off / 0.014).square()) * soft_step(torch.sin(phase) - 0.2, 0.15)
    field = spine * (0.085 + 0.03 * soft_step(vertebra + 0.6, 0.15)) + 0.05 * process

    # Ribs: bands of a phase that runs down the chest, behind steep laterally, in front falling medially.
    spacing = patient.normal(0.128, 0.006)
    wobble = patient.normal(0.0, 0.012, 2)
    bend = pick(wobble, on_right) * torch.sin(5 * ax + 3 * y)
    fall = patient.normal(0.42, 0.05) * ax.square() * (1 - 0.4 * (y + 0.2))
    behind = (y - 0.02 * ax - fall + bend) / spacing
    front = (y + patient.normal(0.55, 0.05) * ax - 0.25 * ax.square() - bend) / (spacing * 1.12)
    strength = patient.normal(1.0, 0.12)
    outer = soft_step(1.0 - ax, 0.05)
    seen = torch.maximum(inside, 0.25 * soft_step(y + 0.75, 0.05) * soft_step(0.95 - ax, 0.03))
    through = 1 - 0.75 * below
    for rib, level, medial_end in ((behind, 0.085, 0.09), (front, 0.060, 0.33)):
        wave = torch.cos(6.283 * (rib + patient.uniform(0.0, 1.0)))
        bone = soft_step(wave - 0.25, 0.09)
        cortex = decay(((wave - 0.32) / 0.16).square())
        reach = soft_step(ax - medial_end, 0.03 if medial_end < 0.2 else 0.06) * outer
        field += strength * level * (0.62 * bone + 0.5 * cortex) * reach * seen * through

    # Clavicles: an S from beside the sternum over the apex to the shoulder.
    rise = patient.normal(0.17, 0.05, 2) + image.normal(0.0, 0.03) + 0.03 * is_ap
    sternal = patient.normal(-0.50, 0.02) + image.normal(0.0, 0.03) - 0.04 * is_ap
    middle = sternal - pick(rise, on_right) * (ax - 0.1) / 0.6 - 0.028 * torch.sin(7.5 * (ax - 0.12))
    half = 0.026 + 0.010 * ((ax - 0.45) / 0.35).square()
    off = (y - middle).abs()
    ends = soft_step(ax - 0.085, 0.010) * soft_step(0.86 - ax, 0.02)
    bone, cortex = soft_step(half - off, 0.005), decay(((off - half) / 0.007).square())
    field += ends * (0.085 * bone + 0.05 * cortex)

    # Scapulae: turned out of the lungs for PA, over them in AP.
    out = image.normal(0.10, 0.035, 2) * (1 - is_ap) + image.normal(-0.035, 0.03, 2) * is_ap
    border = 0.64 + pick(out, on_right) + 0.20 * (y + 0.2) - 0.03 * torch.cos(4 * y)
    top = -0.60 + 0.35 * (ax - 0.7)
    medial, lower = ax - border, 0.10 - y - 0.9 * (ax - 0.75)
    under, over = soft_step(y - top, 0.012), soft_step(lower, 0.012)
    blade = soft_step(medial, 0.006) * under * over
    rim = decay((medial / 0.009).square()) * under * over
    head = soft_step(1 - ((ax - 0.96) / 0.11).square() - ((y + 0.54) / 0.11).square(), 0.18)
    shaft = soft_step(0.055 - (ax - 1.0 - 0.10 * (y + 0.5)).abs(), 0.012) * soft_step(y + 0.54, 0.03)
    return field + (0.055 * blade + 0.045 * rim) + 0.09 * torch.maximum(head, shaft)


def _soft_tissue(x: Tensor, y: Tensor, patient: Streams, body: Tensor, is_male: Tensor) -> Tensor:
    """Returns the attenuation of breasts and pectoral muscles."""
    ax = x.abs()
    size = patient.uniform(0.0, 1.0) * (1 - 0.85 * is_male)
    cx, cy = patient.normal(0.52, 0.05), patient.normal(0.22, 0.06)
    breast = ((ax - cx) / (0.24 + 0.12 * size)).square() + ((y - cy) / (0.18 + 0.10 * size)).square()
    fold = soft_step(1 - breast, 0.05 + 0.5 * soft_step(cy - y, 0.04))
    pectoral = soft_step(-0.05 - y - 0.8 * (0.75 - ax), 0.05) * soft_step(y + 0.65, 0.08)
    return body * (0.13 * size * fold + patient.uniform(0.0, 0.05) * pectoral)


def _findings(
    across: Tensor, down: Tensor, on_right: Tensor, patient: Streams, image: Streams, style: RowStyles
) -> tuple[Tensor, Tensor]:
    """Returns bullae (0 to 1) and opacities (attenuation), (B, N) each."""
    bx, by, size = patient.uniform(-0.2, 0.55), patient.uniform(-0.85, 0.2), patient.uniform(0.10, 0.28)
    there, side = patient.chance(0.07 * style.bullae), patient.chance(0.5)
    bulla, wall = torch.zeros_like(across), torch.zeros_like(across)
    rows = there[:, 0].nonzero()[:, 0]
    if len(rows):
        u, v = across[rows] - bx[rows], (down[rows] - by[rows]) * 1.6
        beyond = (u.square() + v.square()).sqrt() - size[rows]
        here = 1 - (on_right[rows] - side[rows].float()).abs()
        bulla[rows] = soft_step(-beyond, 0.03) * here
        wall[rows] = decay((beyond / 0.025).square()) * here

    opacity = torch.zeros_like(across)
    for source, probability in ((patient, 0.2), (image, 0.15), (image, 0.1)):
        there, side = source.chance(probability * style.opacities), source.chance(0.5)
        ox, oy = source.uniform(-0.5, 0.6), source.uniform(-0.7, 0.5)
        wide, high = source.uniform(0.12, 0.5), source.uniform(0.08, 0.3)
        level = source.uniform(0.04, 0.22)
        rows = there[:, 0].nonzero()[:, 0]
        if len(rows):
            u, v = (across[rows] - ox[rows]) / wide[rows], (down[rows] - oy[rows]) / high[rows]
            here = 1 - (on_right[rows] - side[rows].float()).abs()
            opacity[rows] += here * level[rows] * decay(u.square() + v.square())
    return bulla, opacity + 0.025 * wall


def _texture(x: Tensor, y: Tensor, patient: Streams) -> Tensor:
    """Returns the patient's fine texture (B, N), about standard normal and fixed to the body."""
    side_px = round(x.shape[1] ** 0.5)
    octaves = [patient.normal(0.0, 1.0, 1, cells, cells) for cells in TEXTURE_CELLS]
    fine = [F.interpolate(o, (96, 96), mode="bicubic", align_corners=True) for o in octaves]
    cells = 0.5 * fine[0] + 0.6 * fine[1] + 0.7 * fine[2]
    grid = torch.stack([x, y], -1).reshape(len(x), side_px, side_px, 2)
    return F.grid_sample(cells, grid, padding_mode="reflection", align_corners=False).flatten(1)


@dataclass
class Vessels:
    """Points along the branches of both vascular trees, (B, P) each, by generation."""

    x: Tensor
    y: Tensor
    sigma: Tensor
    amplitude: Tensor
    per_generation: list[int]

    @classmethod
    def draw(cls, patient: Streams, side_px: int) -> "Vessels":
        """Draws branches that bend a little and fork; the first leave the hilum as a fan."""
        generations: list[list[tuple[Tensor, ...]]] = [[] for _ in BRANCHES]
        for sign, up in ((-1.0, 0.0), (1.0, 0.03)):
            first = BRANCHES[0]
            start_x = patient.normal(0.15, 0.02, first)
            start_y = patient.normal(-0.10 - up, 0.035, first)
            fan = torch.linspace(-1.35, 1.45, first, device=start_x.device)
            heading = fan + patient.normal(0.0, 0.13, first)
            strength = patient.normal(1.0, 0.15)
            for level, (count, length, thickest, brightest) in enumerate(
                zip(BRANCHES, BRANCH_LENGTHS, BRANCH_SIGMAS, BRANCH_AMPLITUDES, strict=True)
            ):
                if level:
                    fork = patient.uniform(0.12, 0.55, count // 2, 2)
                    heading = (heading[..., None] + fork * fork.new_tensor([-1.0, 1.0])).flatten(1)
                    start_x, start_y = (p.repeat_interleave(2, 1) for p in (start_x, start_y))
                reach = length * patient.uniform(0.65, 1.3, count)
                bend = patient.normal(0.0, 0.35, count)
                t = torch.linspace(0, 1, n_points(length * 1.3, side_px), device=reach.device)
                way = heading[..., None] + bend[..., None] * t
                step = reach[..., None] / len(t)
                along_x = start_x[..., None] + (step * way.cos()).cumsum(-1)
                along_y = start_y[..., None] + (step * way.sin()).cumsum(-1)
                taper = thickest * (1.15 - 0.35 * t) * torch.ones_like(way)
                shade = strength[..., None] * brightest * (1 - 0.22 * t) * torch.ones_like(way)
                if level == len(BRANCHES) - 1:
                    shade = shade * (1 - t.square())
                drawn = (sign * along_x, along_y, taper, shade)
                generations[level].append(tuple(field.flatten(1) for field in drawn))
                start_x, start_y, heading = along_x[..., -1], along_y[..., -1], heading + bend
        points = [lung for both in generations for lung in both]
        x, y, sigma, amplitude = [torch.cat(parts, 1) for parts in zip(*points, strict=True)]
        per_generation = [sum(lung[0].shape[1] for lung in both) for both in generations]
        return cls(x, y, sigma, amplitude, per_generation)

    def rows(self, rows: slice) -> "Vessels":
        points = (self.x[rows], self.y[rows], self.sigma[rows], self.amplitude[rows])
        return Vessels(*points, self.per_generation)

    def paint(self, frame: Frame, side_px: int) -> Tensor:
        """Returns the attenuation (B, side * side)."""
        canvas = self.x.new_zeros(len(self.x), side_px**2)
        start = 0
        for points, widest in zip(self.per_generation, BRANCH_SIGMAS, strict=True):
            part = slice(start, start + points)
            x, y, sigma = self.x[:, part], self.y[:, part], self.sigma[:, part] + 0.2 * MM
            painted = body_strokes(frame, x, y, sigma, self.amplitude[:, part], side_px, 1.35 * widest)
            canvas, start = torch.maximum(canvas, painted), start + points
        return canvas
