"""Engraving: lines that swell with the tone and bend with the form, as on a banknote."""

import numpy as np

from limner.painters.drawn.fields import Field, Pixels, blurred
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.paper import inked
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Engraving

_PAPER = (243, 238, 222)
_INK = (24, 42, 56)
_MIN_SPACING = 3.5  # output pixels


def engraving(study: Study, style: Engraving) -> Pixels:
    unit, tone, canvas = study.unit, study.tone, study.canvas
    flow = flow_of(tone, 2.2 * unit)
    strength = line_strength(blurred(tone, 0.3 * unit), flow, width=0.8 * unit, reach=2.4 * unit)
    form = blurred(tone, 5.0 * unit)
    low, high = np.percentile(tone, (2, 98))
    soft = (blurred(tone, 0.4 * unit) - 0.8 * low) / max(float(high - 0.8 * low), 0.2)
    spacing = style.spacing * max(2.0 * unit * canvas.scale, _MIN_SPACING)
    # How far the form moves the lines, output pixels: bright parts bulge upwards.
    bulge = 20.0 * unit * canvas.scale
    drawn = canvas.empty()
    for band in canvas.bands(drawn):
        x, y = band.grid()
        raised, dark = band.of(form), 1.0 - band.of(soft)
        cover = _lines((y + 0.25 * x - bulge * raised) / spacing, np.clip(1.12 * dark - 0.10, 0.0, 0.92), spacing)
        crossed = _lines(
            (y - 0.9 * x + 0.7 * bulge * raised) / spacing, np.clip(1.6 * (dark - 0.56), 0.0, 0.8), spacing
        )
        outline = line_cover(band.of(strength), threshold=0.022, softness=0.008 / min(canvas.scale, 3.0))
        cover = np.maximum(np.maximum(cover, crossed), outline)
        drawn[band.top : band.top + band.height] = inked(cover, _PAPER, _INK)
    return drawn


def _lines(phase: Field, share: Field, spacing: float) -> Field:
    """Ink of parallel lines, one per unit of `phase`, each `share` of the spacing wide, with smooth edges."""
    distance = np.abs(phase - np.floor(phase) - 0.5) * 2.0  # 0 in a line's middle .. 1 between two
    return np.asarray(
        np.clip((share - distance) * (spacing / 2.8) + 0.5, 0.0, 1.0) * np.clip(share * 12.0, 0.0, 1.0), np.float32
    )
