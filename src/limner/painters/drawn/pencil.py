"""Pencil: graphite lines, soft shading and two layers of hatching where it is dark."""

import numpy as np

from limner.painters.drawn.fields import Field, Pixels, blurred
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.noise import streaks
from limner.painters.drawn.paper import inked
from limner.painters.drawn.screens import tiled
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Pencil

_PAPER = (249, 248, 244)
_GRAPHITE = (46, 46, 50)
_ANGLES = (-0.9, -0.4)  # radians: the strokes of a right hand
_MAX_TILE = 1024  # pixels; on larger pictures the noise repeats, which nobody sees


def pencil(study: Study, style: Pencil) -> Pixels:
    unit, tone = study.unit, study.tone
    flow = flow_of(tone, 2.0 * unit)
    strength = line_strength(blurred(tone, 0.3 * unit), flow, width=0.75 * unit, reach=2.2 * unit)
    # Dodging: the tone divided by its surroundings' leaves soft shading beside the edges, and no large dark areas.
    around = blurred(tone, 7 * unit)
    shading = np.asarray(1.0 - np.clip(tone / np.maximum(around, 0.05), 0.0, 1.0), np.float32)
    soft = blurred(tone, 1.0 * unit)
    canvas = study.canvas
    stroke = max(0.75 * unit * canvas.scale, 0.7)
    rng = study.rng()
    side = min(1 << max(6, (max(canvas.width, canvas.height) - 1).bit_length()), _MAX_TILE)
    layers = [streaks(rng, side, 14 * stroke, 0.9 * stroke, angle) for angle in _ANGLES]
    grain = streaks(rng, side, 0.7, 0.7, 0.0)
    drawn = canvas.empty()
    for band in canvas.bands(drawn):
        first, second, paper = (tiled(tile, band.top, band.height, band.width) for tile in (*layers, grain))
        line = line_cover(band.of(strength), threshold=0.020, softness=0.016)
        bare = 1.0 - _hatched(band.of(soft), first, second, style.hatching)
        bare *= 1.0 - 0.85 * np.clip(band.of(shading), 0.0, 1.0)
        bare *= 1.0 - 0.85 * line
        cover = 1.0 - bare
        # The paper's grain catches graphite: it shows where there is some.
        cover += paper * (0.010 + 0.10 * cover * (1.0 - cover))
        drawn[band.top : band.top + band.height] = inked(cover, _PAPER, _GRAPHITE)
    return drawn


def _hatched(tone: Field, first: Field, second: Field, strength: float) -> Field:
    """Share of graphite of both layers: the second one only in the darker half."""
    light = np.clip((0.70 - tone) * 1.5, 0.0, 1.0) * np.clip(0.55 + 0.30 * first, 0.05, 1.0)
    dark = np.clip((0.38 - tone) * 2.2, 0.0, 1.0) * np.clip(0.60 + 0.30 * second, 0.05, 1.0)
    bare = (1.0 - 1.4 * strength * light.clip(max=0.7)) * (1.0 - 1.3 * strength * dark.clip(max=0.75))
    return np.asarray(1.0 - bare, np.float32)
