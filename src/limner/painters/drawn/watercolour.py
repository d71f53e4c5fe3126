"""Watercolour: transparent washes with dark borders, granulating pigment, a pencil drawing, a ragged margin."""

import numpy as np

from limner.painters.drawn.fields import (
    Field,
    Pixels,
    blurred,
    grid,
    sampled,
    smoothstep,
    stepped,
    to_lab,
    to_pixels,
    to_rgb,
)
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.kuwahara import painted
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.noise import soft_noise
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Watercolour

_PAPER = np.array([0.985, 0.975, 0.95], np.float32)
_PENCIL = np.array([0.25, 0.22, 0.24], np.float32)
_SATURATION = 1.35
_MARGIN = 0.045  # of the shorter side
_FINE = 0.85  # share of the finer brush that faces are painted with
_UNSTEPPED = 0.7  # share of the even tones that skin keeps: in steps it looks ill


def watercolour(study: Study, style: Watercolour) -> Pixels:
    unit, brush = study.unit, study.unit * style.brush
    height, width = study.height, study.width
    rng = study.rng()
    x, y = grid(height, width)
    # Washes do not keep to the drawing exactly, but in faces: there they would run over the eyes.
    faces = study.in_faces()
    wobble = 1.1 * unit * (1.0 - 0.7 * faces)
    moved = sampled(
        study.colour,
        x + wobble * soft_noise(rng, height, width, 14 * unit),
        y + wobble * soft_noise(rng, height, width, 14 * unit),
    )
    flow = flow_of(moved, 2.2 * brush)
    wash = painted(painted(moved, 4.4 * brush, flow), 2.6 * brush, flow)
    rows, columns = _around(faces)
    if rows.stop:
        fine = painted(moved[rows, columns], 1.7 * brush, flow.part(rows, columns))
        wash[rows, columns] += _FINE * faces[rows, columns, None] * (fine - wash[rows, columns])
    lab = to_lab(wash)
    study.show(0.2, to_rgb(lab))
    lightness = stepped(lab[..., 0], 6, 2.5)
    lightness += _UNSTEPPED * faces * (lab[..., 0] - lightness)
    lab[..., 0] = np.clip(100.0 - (100.0 - lightness) * 0.84, 0.0, 100.0)
    lab[..., 1:] *= _SATURATION
    wash = to_rgb(lab)
    # Pigment gathers at the borders of a wash (Bousseau et al., "Interactive watercolor rendering", 2006: the density
    # of the pigment is an exponent).
    border = np.clip(np.abs(blurred(lightness, 2.0 * unit) - lightness) / 14.0, 0.0, 1.0)
    density = 1.0 + 0.75 * border + 0.13 * soft_noise(rng, height, width, 24 * unit, 4)
    density += 0.05 * soft_noise(rng, height, width, 1.4 * unit, 2)
    wash = np.power(np.maximum(wash, 1e-3), np.maximum(density, 0.3)[..., None])
    covered = _covered(study, rng) if style.margin else np.ones((height, width), np.float32)
    wash = _PAPER + covered[..., None] * (wash - _PAPER)
    study.show(0.4, np.asarray(wash, np.float32))
    strength = line_strength(
        blurred(study.tone, 0.3 * unit), flow_of(study.tone, 2.2 * unit), width=0.75 * unit, reach=2.2 * unit
    )
    strength *= covered
    drawn = study.canvas.empty()
    for band in study.canvas.bands(drawn):
        colour = band.of(np.asarray(wash, np.float32))
        line = line_cover(band.of(strength), threshold=0.024, softness=0.016)[..., None]
        colour = colour + (0.6 + 0.3 * band.of(faces)[..., None]) * line * (_PENCIL - colour)
        drawn[band.top : band.top + band.height] = to_pixels(colour)
    return drawn


def _around(mask: Field) -> tuple[slice, slice]:
    """The rows and the columns that the mask lies in."""
    rows, columns = (np.flatnonzero(mask.max(axis=axis) > 0.01) for axis in (1, 0))
    if not rows.size:
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _covered(study: Study, rng: np.random.Generator) -> Field:
    """(H, W): where there is paint, 1, and where the paper shows, 0. The margin spares the faces."""
    height, width = study.height, study.width
    x, y = grid(height, width)
    margin = _MARGIN * min(height, width)
    inside = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    inside = inside + 0.35 * margin * soft_noise(rng, height, width, 26 * study.unit, 4)
    painted_here = smoothstep(np.asarray(inside, np.float32), 0.65 * margin, 1.1 * margin + 0.5)
    return np.maximum(painted_here, smoothstep(study.in_faces(), 0.3, 0.9))
